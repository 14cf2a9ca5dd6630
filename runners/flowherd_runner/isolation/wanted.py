"""What the mounts of a run, or what takes their place, are to give it."""

from typing import NamedTuple, Optional, Tuple


class Wanted(NamedTuple):
    """What a run is to see. Paths are absolute; those that do not exist count for nothing, except `working_dir`."""

    working_dir: str
    #: Whether the working directory is the run's own fresh one, which may lie in what is covered.
    is_own: bool
    #: Nothing below these can be seen, except a working directory of the run's own.
    covered: Tuple[str, ...]
    #: Nothing below these can be seen, except what is in `keep`.
    hidden: Tuple[str, ...]
    #: Stay reachable; named by the agent, which has followed all links.
    keep: Tuple[str, ...]
    #: The same, for the interpreter's and the system's own places, wherever links lead.
    trusted: Tuple[str, ...]
    #: Stay reachable, and can be changed although the rest cannot; real paths when the agent planned the run, but for a
    #: working directory of the run's own.
    write: Tuple[str, ...]
    #: Real paths of what the next fork server and runner load, which cannot be changed although `write` has it in it.
    code: Tuple[str, ...]
    #: Directories in whose places the run has its own.
    own: Tuple[str, ...]
    #: Whether nothing else can be changed.
    is_sealed: bool
    #: Whether the run's processes are root's.
    is_root: bool
    #: User and group of the run; None: this process's.
    owner: Optional[Tuple[int, int]]
    #: Name in /tmp of a directory that only the run's user may enter.
    runtime_name: str

    @property
    def own_directory(self) -> Optional[str]:
        """The working directory if it is the run's own fresh one: the one place that may be named by way of links."""
        return self.working_dir if self.is_own else None
