"""Lines of a journal as a person sees them: a subflow's lines differ from those of the run that it is part of."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest

from flowherd.cli.runs.follow import from_journal
from flowherd.cli.runs.log_view import emit_json, emit_text
from flowherd.host.delivery.mirror import Mirror
from flowherd.host.run import Run
from flowherd.host.store.run_directory import RunDirectory
from flowherd_runner.contract.journal import STREAM_LOG, STREAM_STDOUT, pack_record, pack_so_far
from flowherd_runner.contract.spec import RunSpec
from tests.support.journals import read_lines

RUN, SUBFLOW = str(uuid.uuid4()), str(uuid.uuid4())


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    records = [{"logger": "x", "message": "of the run"}, {"logger": "x", "message": "of it", "flow_run_id": SUBFLOW}]
    path = tmp_path / "journal"
    path.write_bytes(
        b"".join(pack_record(STREAM_LOG, 20, n + 1, json.dumps(one).encode()) for n, one in enumerate(records))
    )
    return path


def test_text_names_the_subflow(journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    emit_text(map(from_journal, read_lines(journal, RUN)))
    shown = [line.split("  ")[-1] for line in capsys.readouterr().out.splitlines()]
    assert shown == ["x: of the run", f"x [subflow {SUBFLOW[:8]}]: of it"]


def test_json_has_the_subflows_id(journal: Path, capsys: pytest.CaptureFixture[str]) -> None:
    emit_json(map(from_journal, read_lines(journal, RUN)))
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line.get("subflow_run_id") for line in shown] == [None, SUBFLOW]


class Paper:
    """A screen with room for everything."""

    def __init__(self) -> None:
        self.text = ""

    def write_lines(self, text: str) -> None:
        self.text += text

    def wait_for_room(self, timeout_s: float) -> bool:
        return True

    def lose(self, count: int) -> None:
        raise AssertionError(f"{count} lines were lost")


def test_the_agents_terminal_names_the_subflow(journal: Path) -> None:
    screen = Paper()
    run = Run(RunDirectory(journal.parent, RUN), RunSpec(flow_run_id=RUN, flow_run_name="a-run"), lambda: None)
    Mirror(screen).show_all([run])
    assert screen.text.splitlines() == ["a-run | of the run", f"a-run [subflow {SUBFLOW[:8]}] | of it"]


def test_the_agents_terminal_shows_how_a_line_begins_and_then_the_line(journal: Path) -> None:
    run = Run(RunDirectory(journal.parent, RUN), RunSpec(flow_run_id=RUN, flow_run_name="a-run"), lambda: None)
    screen = Paper()
    mirror = Mirror(screen)
    journal.write_bytes(b"")
    for number, (text, standing) in enumerate([(b"10%", False), (b"20%", False), (b"30%", True)]):
        with journal.open("ab") as file:
            file.write(pack_so_far(STREAM_STDOUT, 20, 1000 + number * 1000, text, standing=standing))
        mirror.show_all([run])
    assert screen.text == "a-run | 10%\na-run | 30%\n"
    with journal.open("ab") as file:
        file.write(pack_record(STREAM_STDOUT, 20, 9000, b"100%") + pack_record(STREAM_STDOUT, 20, 10000, b"100%"))
    mirror.show_all([run])
    assert screen.text == "a-run | 10%\na-run | 30%\na-run | 100%\na-run | 100%\n"
