"""Settings of [runs] that decide how much of the host a run gets beside others."""

from __future__ import annotations

from typing import Annotated

from flowherd.config.sections import Check, Field, Section
from flowherd.weights import checked_io


class RunWeights(Section):
    """Weights of runs whose flow chooses none."""

    cpu: float | None = Field(
        default=None,
        gt=0,
        description="Cores that a run may use at most, such as 0.5 or 2: by its cgroup, or if it has none by the "
        "number of processors on which it may run, rounded up.",
    )
    nice: int | None = Field(
        default=None,
        ge=-20,
        le=19,
        description="Nice value of a run's processes, from -20 (first) to 19 (last). Not set: the agent's; lower than "
        "that only as root.",
    )
    io: Annotated[str, Check(checked_io)] | None = Field(
        default=None,
        description="Class of a run's I/O: idle, best-effort, or best-effort:0 (first) to best-effort:7 (last). Not "
        "set: the agent's.",
    )
    oom_score_adj: int | None = Field(
        default=None,
        ge=-1000,
        le=1000,
        description="What is added to a run's score, in thousandths of the memory, when the kernel is out of memory: "
        "it ends the process with the highest. Not set: 100 more than the agent's own, so that runs are ended before "
        "the agent and their runners; lower than the agent's own only as root.",
    )
