"""The options that give a flow weights: --cpu, --nice, --io and --oom-score-adj."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from flowherd.cli import completion, exit_codes
from flowherd.cli.failures import CommandError

CpuOption = Annotated[
    float | None, typer.Option("--cpu", metavar="CORES", help="Cores that a run may use at most: 0.5, 2.")
]
NiceOption = Annotated[
    int | None,
    typer.Option("--nice", min=-20, max=19, metavar="N", help="Nice value of a run's processes; 19 comes last."),
]
IoOption = Annotated[
    str | None,
    typer.Option(
        "--io",
        metavar="CLASS",
        help="Class of a run's I/O: idle, best-effort, best-effort:0 (first) to best-effort:7.",
        autocompletion=completion.io_classes,
    ),
]
OomScoreAdjOption = Annotated[
    int | None,
    typer.Option(
        "--oom-score-adj",
        min=-1000,
        max=1000,
        metavar="N",
        help="The kernel, out of memory, ends what has the highest first (default: 100 above the agent).",
    ),
]


def chosen_weights(cpu: float | None, nice: int | None, io: str | None, oom_score_adj: int | None) -> dict[str, Any]:
    """Return the weights that were given, by their names in a run config. Raises CommandError."""
    from flowherd.weights import checked

    try:
        return checked({"cpu": cpu, "nice": nice, "io": io, "oom_score_adj": oom_score_adj})
    except ValueError as error:
        raise CommandError(f"--{error}", exit_codes.USAGE) from error
