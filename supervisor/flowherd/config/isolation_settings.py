"""The settings of [runs.isolation]: what keeps runs apart from all that is not their own."""

from __future__ import annotations

from typing import Annotated, Literal

from flowherd.config.sections import Check, Field, Section

IsolationLevel = Literal["none", "private", "sealed"]
Network = Literal["host", "none"]
IfMissing = Literal["refuse", "weaker"]


def _checked_place(path: str) -> str:
    if not path.startswith(("/", "~")) or "\0" in path:
        raise ValueError("it should be an absolute path, or one that begins with ~")
    return path


#: A path on the agent's host.
Place = Annotated[str, Check(_checked_place)]


class IsolationSection(Section):
    """Isolation of runs. It is a floor: a flow may ask for more, never for less."""

    level: IsolationLevel = Field(
        default="none",
        description="none: a process tree of its own. private: also a pid namespace and /proc, /tmp, /var/tmp, "
        "/dev/shm of its own, and flowherd's files are out of its sight. sealed: it also changes nothing outside its "
        "working directory and `write`, and has no capabilities.",
    )
    network: Network = Field(
        default="host",
        description="host: the network of the host. none: none, not even the host's loopback; alone it means the level "
        "private, too.",
    )
    if_missing: IfMissing = Field(
        default="refuse",
        description="What happens if this host lacks something of it. refuse: the agent, or the run, does not start. "
        "weaker: it starts with what there is.",
    )
    write: list[Place] = Field(
        default=[],
        description="Directories and files that sealed runs may change, beside their working directory. With the level "
        "sealed here, what a flow names itself has to be within these.",
    )
    hide: list[Place] = Field(
        default=[], description="Directories and files that isolated runs do not see, beside flowherd's own."
    )
