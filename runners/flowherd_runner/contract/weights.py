"""How much of the host a run gets beside others: the object `weights` of spec.json; what is null is left as it is.

cpu             float | null: cores that it may use at most, by its cgroup, else by affinity (rounded up)
nice            int | null: -20 to 19 (setpriority(2)); below the agent's own only as root
io              str | null: "idle", "best-effort" or "best-effort:0" to ":7" (ioprio_set(2))
oom_score_adj   int | null: -1000 to 1000 (proc(5)); the kernel ends the highest first; lower than the agent's own
                only as root
"""

from typing import NamedTuple, Optional


class Weights(NamedTuple):
    """What spec.json asks for; the module's docstring describes the fields."""

    cpu: Optional[float] = None
    nice: Optional[int] = None
    io: Optional[str] = None
    oom_score_adj: Optional[int] = None
