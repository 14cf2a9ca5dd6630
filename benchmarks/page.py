"""The figures of docs/performance.md, from what `python -m benchmarks.table --json FILE` has written.

python -m benchmarks.page FILE
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def page(found: dict[str, Any]) -> str:
    """Return machine, table and notes as Markdown."""
    machine = found["machine"]
    names = ("commit", "cores", "memory_gib", "kernel", "python")
    of_machine = ", ".join(f"{name.replace('_gib', ' GiB')} {machine[name]}" for name in names)
    loads = f"load {machine['load']} at the beginning, {found['load_at_end']} at the end"
    figures: list[dict[str, Any]] = found["figures"]
    fork_ms = next((one["median"] for one in figures if one["what"].startswith("fork, exit")), None)
    lines = [f"{machine['at'][:10]}: {of_machine};", f"{loads}.", "", "| what | median | p90 | n | forks |"]
    lines.append("| --- | ---: | ---: | ---: | ---: |")
    for one in figures:
        is_of_job = "->" in one["what"] and one["unit"] == "ms" and fork_ms is not None
        forks = f"{one['median'] / fork_ms:.1f}" if is_of_job and fork_ms else ""
        value = f"{shown(one['median'])} {one['unit']}"
        lines.append(f"| {one['what']} | {value} | {shown(one['p90'])} | {one['n']} | {forks} |")
    notes = {one["row"]: one["note"] for one in figures if one["note"] and "processes on" not in one["note"]}
    return "\n".join([*lines, "", *(f"- {row}: {note}" for row, note in notes.items())])


def shown(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


if __name__ == "__main__":
    print(page(json.loads(Path(sys.argv[1]).read_text())))
