"""How much of the host a run gets beside others: the object `weights` of spec.json; what is null is left as it is.

cpu             float | null: cores that it may use at most, by its cgroup, else by affinity (rounded up)
nice            int | null: -20 to 19 (setpriority(2)); below the agent's own only as root
io              str | null: "idle", "best-effort" or "best-effort:0" to ":7" (ioprio_set(2))
oom_score_adj   int | null: -1000 to 1000 (proc(5)); the kernel ends the highest first; lower than the agent's own
                only as root
"""

from typing import NamedTuple, Optional

IO_CLASSES = '"idle", "best-effort", or "best-effort:0" to "best-effort:7"'

# ioprio_set(2): the class in the bits from 13 on, the level below.
_BEST_EFFORT = 2 << 13
_IDLE = 3 << 13
#: The level that the kernel gives to a process of nice value 0.
_USUAL_LEVEL = "4"


class Weights(NamedTuple):
    """What spec.json asks for; the module's docstring describes the fields."""

    cpu: Optional[float] = None
    nice: Optional[int] = None
    io: Optional[str] = None
    oom_score_adj: Optional[int] = None


def io_priority(text: str) -> int:
    """Return the number that ioprio_set(2) takes for a class of I/O. Raises ValueError."""
    if text == "idle":
        return _IDLE
    name, colon, level = text.partition(":")
    level = level if colon else _USUAL_LEVEL
    if name != "best-effort" or level not in tuple("01234567"):
        raise ValueError("{!r:.80} is none of {}".format(text, IO_CLASSES))
    return _BEST_EFFORT | int(level)
