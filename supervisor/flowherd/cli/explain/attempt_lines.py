"""How the attempts of a run ended, one line each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from flowherd.cli.format_times import span
from flowherd.client.attempts import AttemptView

_MIB = 2**20


def attempts_as_json(attempts: Sequence[AttemptView]) -> list[dict[str, Any]]:
    """Return the attempts as objects, each with how long it took, seconds."""
    return [{**asdict(each), "took_s": _took_s(each)} for each in attempts]


def attempt_line(attempt: Mapping[str, Any]) -> str:
    """Return the line of one of these objects: "attempt 1: Failed after 3.2s, exit code 3, CPU 0.3s, ...".

    What is not known is left out.
    """
    took_s, cpu_s, peak = attempt["took_s"], attempt["cpu_time_s"], attempt["peak_memory_bytes"]
    code, reason = attempt["exit_code"], attempt["reason"]
    parts = [
        attempt["state"] + ("" if took_s is None else f" after {span(took_s)}"),
        *([] if code is None else [f"exit code {code}"]),
        *([] if reason in (None, "exited") else [f"reason {reason}, {attempt['grade']}"]),
        *([] if cpu_s is None else [f"CPU {span(cpu_s)}"]),
        *([] if not peak else [f"peak memory {peak / _MIB:.1f} MiB"]),
    ]
    return f"attempt {attempt['number']}: {', '.join(parts)}"


def _took_s(attempt: AttemptView) -> float | None:
    if attempt.start_time is None or attempt.end_time is None:
        return None
    return (attempt.end_time - attempt.start_time).total_seconds()
