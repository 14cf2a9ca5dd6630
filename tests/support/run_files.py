"""The files of a run's directory, and damages to them, for hypothesis."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from flowherd_runner.contract import files, identity
from flowherd_runner.contract.journal import STREAM_LOG, STREAM_STDOUT, pack_record
from tests.support.mutations import IN_PLACE_OF_A_FILE, damaged_bytes, mutated, put_in_place

IDENTITY = "0123456789abcdef"


def spec_of(run_id: str) -> dict[str, Any]:
    return {
        "contract": 1,
        "flow_run_id": run_id,
        "flow_run_name": "a-run",
        "flow_name": "a flow",
        "claim": f"{IDENTITY}/{run_id}",
        "attempt": "abc",
        "interpreter": shutil.which("python3"),
        "preload": [],
        "kind": "command",
        "target": {"argv": ["sh", "-c", "echo again"]},
        "parameters": {},
        "env": {},
        "masked_env": [],
        "working_dir": None,
        "import_paths": [],
        "user": None,
        "limits": {"run_time_s": 20, "memory_bytes": 10**9, "processes": 50},
        "grace_s": 0.5,
        "max_line_bytes": 1000,
        "max_journal_bytes": 100_000,
    }


def contents(run_id: str, pid: int) -> dict[str, bytes]:
    """Return the files of a run that ended while no agent looked; they give `pid` as the runner's."""
    status = identity.process_status(pid)
    started = {
        "contract": 1,
        "pid": pid,
        "start_ticks": status[1] if status else 5,
        "boot_id": identity.boot_id(),
        "flow_pid": pid,
    }
    ended = {
        "contract": 1,
        "reason": "exited",
        "grade": "proven",
        "evidence": "wait status",
        "exit_code": 3,
        "signal": None,
        "exception": None,
        "detail": None,
        "cpu_time_s": 0.5,
        "peak_memory_bytes": 1000,
        "leftovers": [{"pid": 5, "name": "sleep"}],
        "lines": 2,
    }
    report = {
        "flow_run_id": run_id,
        "state": "Running",
        "message": "Running",
        "at": "2024-01-01T00:00:00+00:00",
        "claim": f"{IDENTITY}/{run_id}",
        "pid": 77,
        "version": None,
        "reason": None,
        "grade": None,
    }
    journal = pack_record(STREAM_STDOUT, 20, 10**18, b"one") + pack_record(
        STREAM_LOG, 20, 10**18 + 1000, b'{"logger": "x", "message": "two"}'
    )
    documents = {
        files.SPEC_FILE: spec_of(run_id),
        files.STARTED_FILE: started,
        files.EXIT_FILE: ended,
        files.STOP_FILE: {"contract": 1, "reason": "cancelled", "detail": "x", "grace_s": 1.0},
        files.OUTBOX_FILE: {"contract": 1, "reports": [report], "final": False, "state": "Running"},
    }
    raw = {files.JOURNAL_FILE: journal, files.FORWARDED_FILE: b"0", files.LOCK_FILE: b"", "runner.err": b"words"}
    return {**{name: json.dumps(value).encode() for name, value in documents.items()}, **raw}


TEMPLATE = contents(str(uuid.uuid4()), 4_000_000)
JSON_FILES = [files.SPEC_FILE, files.STARTED_FILE, files.EXIT_FILE, files.OUTBOX_FILE, files.STOP_FILE]


@st.composite
def damages(draw: st.DrawFn) -> list[tuple[str, str, Any]]:
    """Draw up to four damages: (file name, kind, what is put there)."""
    found: list[tuple[str, str, Any]] = []
    for _ in range(draw(st.integers(1, 4))):
        name = draw(st.sampled_from(sorted(TEMPLATE)))
        kind = draw(st.sampled_from(["bytes", "json", "thing", "missing"]))
        if kind == "json" and name in JSON_FILES:
            value = draw(mutated(json.loads(TEMPLATE[name])))
            found.append((name, "bytes", json.dumps(value).encode("utf-8", "surrogatepass")))
        elif kind == "thing":
            found.append((name, "thing", draw(IN_PLACE_OF_A_FILE)))
        elif kind == "missing":
            found.append((name, "thing", "missing"))
        else:
            found.append((name, "bytes", draw(damaged_bytes(TEMPLATE[name]))))
    # A directory without a spec was being removed: the end of its run is known, or it was never claimed.
    return [(name, kind, value) for name, kind, value in found if (name, value) != (files.SPEC_FILE, "missing")]


def apply(directory: Path, damage: list[tuple[str, str, Any]], outside: Path) -> None:
    for name, kind, value in damage:
        if kind == "thing":
            put_in_place(directory / name, value, outside)
        else:
            put_in_place(directory / name, "missing", outside)
            (directory / name).write_bytes(value)


def fill(directory: Path, run_id: str, pid: int) -> None:
    directory.mkdir(mode=0o700)
    for name, data in contents(run_id, pid).items():
        (directory / name).write_bytes(data)


@contextmanager
def outside_files() -> Iterator[Path]:
    """Make a file in a directory of its own; check that nothing there is written or removed in the block."""
    with tempfile.TemporaryDirectory() as place:
        outside = Path(place) / "outside.json"
        outside.write_text('{"contract": 1, "reports": [], "final": true, "state": "Success"}')
        os.utime(outside, ns=(1, 1))
        yield outside
        assert [entry.name for entry in Path(place).iterdir()] == ["outside.json"]
        assert outside.stat().st_mtime_ns == 1
        assert outside.read_text().endswith('"Success"}')
