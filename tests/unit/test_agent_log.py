"""The agent's own log: text or JSON, and a file if one is named; lines about a run carry the run's id."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from loguru import logger

from flowherd.agent import agent_log
from flowherd.config.records import Logging
from tests.support.waiting import wait_until

RUN_ID = "11111111-2222-3333-4444-555555555555"


@pytest.fixture(autouse=True)
def sinks_as_before() -> Iterator[None]:
    yield
    logger.configure(handlers=[], extra={}, patcher=lambda record: None)


def test_a_line_about_a_run_names_it_in_text(capsys: pytest.CaptureFixture[str]) -> None:
    agent_log.configure("INFO", Logging())
    logger.bind(run_id=RUN_ID, run="nightly").info("Ended")
    logger.debug("not shown")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("INFO    [nightly 11111111] Ended")


def test_json_lines_carry_the_bound_fields(capsys: pytest.CaptureFixture[str]) -> None:
    agent_log.configure("INFO", Logging(json_lines=True))
    logger.bind(run_id=RUN_ID, action="end").warning("Ended {}", 3)
    line = json.loads(capsys.readouterr().err)
    assert (line["level"], line["message"], line["run_id"], line["action"]) == ("WARNING", "Ended 3", RUN_ID, "end")


def test_a_named_file_gets_the_lines_too_and_is_rotated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "agent.log"
    agent_log.configure("INFO", Logging(file=str(path), rotation="1 KB", retention=2))
    for number in range(100):
        logger.info("line {}", number)
    logger.remove()
    kept = sorted(tmp_path.iterdir())
    assert 2 <= len(kept) <= 3
    assert "line 99" in path.read_text()


def test_a_changed_log_has_another_level_form_and_file_and_loses_no_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "first.log", tmp_path / "second.log"
    agent_log.configure("INFO", Logging())
    logger.debug("not shown")
    assert agent_log.change("DEBUG", Logging(file=str(first)))
    logger.debug("one")
    assert agent_log.change("DEBUG", Logging(file=str(second), json_lines=True))
    logger.debug("two")
    with pytest.raises(OSError):
        agent_log.change("DEBUG", Logging(file=str(first / "below.log")))
    logger.debug("three")
    assert agent_log.change("INFO", Logging())
    logger.info("four")
    logger.remove()
    assert [line.split()[-1] for line in first.read_text().splitlines()] == ["one"]
    assert [line.split()[-1] for line in second.read_text().splitlines()] == ["two", "three"]
    text, *rest = capsys.readouterr().err.splitlines()
    assert (text.split()[-1], rest[-1].split()[-1]) == ("one", "four")
    assert [json.loads(line)["message"] for line in rest[:-1]] == ["two", "three"]


def test_a_file_that_was_renamed_is_left_alone_once_the_log_is_opened_again(tmp_path: Path) -> None:
    path, rotated = tmp_path / "agent.log", tmp_path / "agent.log.1"
    agent_log.configure("INFO", Logging(file=str(path)))
    logger.info("one")
    agent_log.flush()
    wait_until(lambda: "one" in path.read_text())
    path.rename(rotated)
    assert agent_log.reopen() == [str(path)]
    logger.info("two")
    logger.remove()
    assert ["one" in rotated.read_text(), "two" in rotated.read_text(), "two" in path.read_text()] == [
        True,
        False,
        True,
    ]


def test_a_program_that_chose_its_own_sinks_keeps_them(capsys: pytest.CaptureFixture[str]) -> None:
    logger.configure(handlers=[])
    agent_log.configure_unless_done("INFO", Logging())
    logger.info("not shown")
    assert capsys.readouterr().err == ""


def test_texts_of_others_cannot_forge_a_line_or_control_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "agent.log"
    agent_log.configure("INFO", Logging(file=str(path)))
    evil = "x\x1b[2J\u202e\nFORGED"
    log = logger.bind(run_id=RUN_ID, run=evil)
    try:
        raise ValueError(evil)
    except ValueError as error:
        log.exception("{} failed: {}", evil, error)
    logger.remove()
    for text in (capsys.readouterr().err, path.read_text()):
        first, *trace = text.splitlines()
        assert first.endswith(
            r"[x\x1b[2J\u202e\nFORGED 11111111] x\x1b[2J\u202e\nFORGED failed: x\x1b[2J\u202e\nFORGED"
        )
        assert trace[0] == "Traceback (most recent call last):"
        assert "\x1b" not in text and "\u202e" not in text
        assert trace[-2:] == [r"ValueError: x\x1b[2J\u202e", "    FORGED"]


def test_json_lines_have_the_texts_themselves_and_no_field_of_the_text_format(
    capsys: pytest.CaptureFixture[str],
) -> None:
    agent_log.configure("INFO", Logging(json_lines=True))
    logger.info("a\x1bb\nc")
    line = json.loads(capsys.readouterr().err)
    assert line["message"] == "a\x1bb\nc"
    assert set(line) == {"timestamp", "level", "message"}
