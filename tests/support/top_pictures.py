"""A night's work as `flowherd top` knows it, and its screens as text with their styles."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from flowherd.cli.tables.cells import width_of
from flowherd.cli.top.picture import AgentRow, Figures, HostFigures, Picture, RunRow
from flowherd.cli.top.spans import Line
from flowherd.story.order import Group

NOW = datetime(2026, 11, 26, 14, 32, 11, tzinfo=timezone.utc)
_PLACE = Path(__file__).resolve().parents[1] / "fixtures" / "top"
_MIB, _GIB = 1 << 20, 1 << 30
_LETTERS = {"": ".", "bold": "B", "dim": "d", "ok": "o", "bad": "x", "warn": "w", "run": "r", "current": "C"}


def row(flow: str, name: str, id: str, **given: Any) -> RunRow:
    return RunRow(id=f"{id}-0000-4000-8000-000000000000", name=name, flow=flow, **{"agent": "barn-01", **given})


def running(
    flow: str, name: str, id: str, seconds: float, use: tuple[float, float, float, int], **given: Any
) -> RunRow:
    """A running run; `use` are percent of a processor, MiB of memory, MiB of its limit (0: none), and processes."""
    cpu, memory, limit, processes = use
    figures = Figures(
        cpu_percent=cpu,
        memory_bytes=int(memory * _MIB),
        limit_bytes=int(limit * _MIB) or None,
        processes=processes,
        cpu_history=[cpu * part for part in (0.5, 0.8, 1.0, 0.7)],
        memory_history=[memory * _MIB * part for part in (0.4, 0.6, 0.9, 1.0)],
    )
    started = NOW - timedelta(seconds=seconds)
    return row(
        flow, name, id, **{"state": "Running", "group": Group.RUNNING, "started": started, "figures": figures, **given}
    )


def ended(flow: str, name: str, id: str, ago: timedelta, took_s: float, **given: Any) -> RunRow:
    end = NOW - ago
    return row(flow, name, id, **{"ended": end, "started": end - timedelta(seconds=took_s), **given})


def waiting(flow: str, name: str, id: str, in_s: float, says: str, **given: Any) -> RunRow:
    group = Group.NEXT if in_s > 0 else Group.DUE
    due = NOW + timedelta(seconds=in_s)
    return row(flow, name, id, **{"state": "Scheduled", "group": group, "due": due, "says": says, "agent": "", **given})


def night(**changes: Any) -> Picture:
    """Seven runs go on, of which one is stuck, one is late, two flows have failed, and an agent is away."""
    failed, success = {"state": "Failed", "group": Group.FAILED}, {"state": "Success", "group": Group.ENDED}
    rows = [
        running("price-feed", "amber-finch", "c5512ef7", 13860, (0, 92, 512, 1), agent="edge-07", usual_s=118,
                stuck="no output and less than 1% CPU for 42 m"),
        running("model-train", "brisk-otter", "7f3c1a2e", 8040, (381, 11469, 12288, 9), agent="gpu-02", usual_s=9600,
                last_line="epoch 31/40  loss 0.0418  val 0.0533"),
        running("ledger-check", "grand-bison", "e0c4bb58", 860, (3, 307, 1024, 1), state="Cancelling", usual_s=660,
                last_line="asked to end 6 s ago"),
        running("orders-rollup", "placid-robin", "b81d09c4", 751, (98, 1434, 4096, 3), usual_s=2280,
                last_line="412,000 of 1,310,000 rows"),
        running("thumbnails", "olive-camel", "91aa03d1", 3, (88, 102, 0, 1), usual_s=4, last_line="resized 118 of 200"),
        waiting("mail-digest", "gentle-dove", "4e90b1c8", -731, "No living agent has the label mailer"),
        ended("invoices-import", "sunny-stoat", "5147f6b5", timedelta(minutes=52), 8.2, count=3, usual_s=8, **failed,
              says="Exit code 3. Last words: no such column: vat_rate"),
        ended("nightly-backup", "steady-mink", "2f8a6c31", timedelta(hours=11, minutes=40), 1333, usual_s=2040,
              says="Memory limit exceeded: 2.3 GiB in 4 processes, the limit is 2.0 GiB", **failed),
        waiting("price-feed", "noble-crane", "f65b21d3", 172, "every 5 minutes; 11 more within the hour"),
        waiting("nightly-backup", "spry-newt", "18cc47ab", 43080, "daily at 02:30"),
        ended("thumbnails", "lucky-plover", "3ad1c0f2", timedelta(minutes=5), 4.1, says="Exit code 0", **success),
    ]  # fmt: skip
    agents = [
        AgentRow(name="barn-01", state="connected", runs=5, limit=8, load=5.1, cpus=16, labels=["barn-01", "etl"]),
        AgentRow(name="gpu-02", state="connected", runs=1, limit=2, load=4.3, cpus=32, labels=["gpu"]),
        AgentRow(name="edge-07", state="paused", why="paused: claims nothing until `flowherd resume`", runs=1, limit=4),
        AgentRow(name="edge-12", state="away", runs=1, limit=4, heard=NOW - timedelta(minutes=26)),
    ]
    host = HostFigures(
        load=5.1,
        cpus=16,
        memory_used=41 * _GIB,
        memory_total=64 * _GIB,
        disk_free=212 * _GIB,
        pressure={"cpu": 2.0, "io": 6.0, "mem": 0.0},
        up_s=41 * 86400.0,
        load_history=[9.0, 8.0, 4.0, 4.0, 9.0, 7.0, 7.0, 5.0, 7.0, 7.0, 7.0, 7.0],
    )
    given = {"rows": rows, "hidden": {Group.ENDED: 645, Group.NEXT: 118}, "agents": agents, "host": host, **changes}
    return Picture(source="barn-01", at=NOW, **given)


def as_text(lines: Sequence[Line]) -> str:
    """Return the cells of a screen, and below them a letter for the style of each."""
    texts = ["".join(span.text for span in one).rstrip() for one in lines]
    styles = ["".join(_LETTERS.get(span.style, "c") * width_of(span.text) for span in one).rstrip(".") for one in lines]
    return "\n".join([*texts, "=" * 20, *styles]) + "\n"


def check(name: str, lines: Sequence[Line]) -> None:
    """Compare a screen with the one that is kept; with UPDATE_PICTURES=1 keep this one."""
    path = _PLACE / f"{name}.txt"
    if os.environ.get("UPDATE_PICTURES"):
        path.write_text(as_text(lines), encoding="utf-8")
    assert as_text(lines) == path.read_text(encoding="utf-8")


@contextmanager
def in_utc() -> Iterator[None]:
    """Have local times be those of UTC."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "UTC"
    time.tzset()
    try:
        yield
    finally:
        if before is None:
            del os.environ["TZ"]
        else:
            os.environ["TZ"] = before
        time.tzset()
