"""Which interpreter serves a flow run, and what that has imported before the run is forked. Decides, starts nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from flowherd.values import FlowRun


@dataclass(frozen=True, kw_only=True)
class RuntimeRule:
    """An interpreter of the settings, and which runs it serves: those that meet everything that is set here."""

    name: str
    #: A program, or the directory of a virtual environment.
    interpreter: str
    #: Imported beside what the kind of run needs.
    preload: tuple[str, ...] = ()
    #: The run carries one of them; empty is any run.
    labels: frozenset[str] = frozenset()
    #: Names of flows, `*` and `?` stand for any characters; empty is any flow.
    flows: tuple[str, ...] = ()
    #: The version of Prefect that the flow was registered with, as in "0.*"; None is any, and none too.
    core_version: str | None = None
    #: Prefect is installed there, of a line that the agent's backend serves.
    has_prefect: bool = True
    #: Of that Prefect, where it is known.
    prefect_version: str | None = None

    def is_meant_for(self, lines: Collection[str]) -> bool:
        """Whether its `core_version` names one of these lines of Prefect, "3" say, or all."""
        return self.core_version is not None and self.core_version[:1] in {*lines, "*", "?", "["}

    def serves(self, flow_run: FlowRun) -> bool:
        """Whether this runtime is for the run."""
        flow = flow_run.flow
        return (
            (not self.labels or bool(self.labels & set(flow_run.labels)))
            and (not self.flows or any(fnmatchcase(flow.name, pattern) for pattern in self.flows))
            and (self.core_version is None or fnmatchcase(flow.core_version or "", self.core_version))
        )


def first_serving(flow_run: FlowRun, rules: Iterable[RuntimeRule]) -> RuntimeRule | None:
    """The first of `rules` that is for the run, if any is."""
    return next((rule for rule in rules if rule.serves(flow_run)), None)


def newer_than(server_version: str, rules: Iterable[RuntimeRule]) -> list[RuntimeRule]:
    """Those whose Prefect is of a later minor version than the server: what it asks for may be unknown there."""
    server = _minor(server_version)
    return [rule for rule in rules if server and rule.prefect_version and _minor(rule.prefect_version) > server]


def _minor(version: str) -> tuple[int, ...]:
    """The first two numbers; nothing where there are none."""
    parts = version.split(".")[:2]
    return tuple(map(int, parts)) if len(parts) == 2 and all(part.isdecimal() for part in parts) else ()


def together(*modules: Sequence[str]) -> tuple[str, ...]:
    """All modules in their order, each once."""
    return tuple(dict.fromkeys(name for names in modules for name in names))
