"""`Agent.logger` is a standard logger, and its records are lines of the agent's own log."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from loguru import logger

from flowherd import Agent
from flowherd.agent import agent_log
from flowherd.backends.memory import MemoryBackend
from flowherd.config.records import Logging


@pytest.fixture(autouse=True)
def sinks_as_before() -> Iterator[None]:
    yield
    logger.configure(handlers=[], extra={}, patcher=lambda record: None)


@pytest.fixture
def agent() -> Iterator[Agent]:
    """An agent with a name of its own, because standard loggers are kept by name for the life of the process."""
    made = Agent(name=f"agent-{uuid.uuid4()}", backend=MemoryBackend())
    yield made
    made.logger.handlers.clear()


def json_lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_it_is_named_as_the_agent_and_has_its_level(monkeypatch: pytest.MonkeyPatch) -> None:
    default = Agent(backend=MemoryBackend()).logger
    assert isinstance(default, logging.Logger)
    assert (default.name, default.level, default.isEnabledFor(logging.DEBUG)) == ("agent", logging.INFO, False)
    monkeypatch.setenv("PREFECT__CLOUD__AGENT__LEVEL", "DEBUG")
    verbose = Agent(name="verbose", backend=MemoryBackend()).logger
    assert (verbose.name, verbose.level, verbose.isEnabledFor(logging.DEBUG)) == ("verbose", logging.DEBUG, True)


def test_several_agents_of_a_name_share_one_handler() -> None:
    loggers = {Agent(backend=MemoryBackend()).logger for _ in range(3)}
    assert [len(one.handlers) for one in loggers] == [1]


def test_records_reach_the_agents_log_with_arguments_braces_and_extra(
    agent: Agent, capsys: pytest.CaptureFixture[str]
) -> None:
    agent_log.configure("INFO", Logging(json_lines=True))
    agent.logger.info("%s has %r, %d%%", "q", {"a": 1}, 5)
    agent.logger.warning("{'a': 1} {0} {name}", extra={"queue": "night", "run_id": 7})
    agent.logger.getChild("ssh").error("%(host)s is away", {"host": "h1"})
    agent.logger.debug("not shown")
    lines = json_lines(capsys)
    assert [(line["level"], line["message"]) for line in lines] == [
        ("INFO", "q has {'a': 1}, 5%"),
        ("WARNING", "{'a': 1} {0} {name}"),
        ("ERROR", "h1 is away"),
    ]
    assert (lines[1]["queue"], lines[1]["run_id"]) == ("night", 7)
    assert all(line["agent"] == agent.name for line in lines)


def test_an_exception_is_shown_with_its_traceback(agent: Agent, capsys: pytest.CaptureFixture[str]) -> None:
    agent_log.configure("INFO", Logging())
    try:
        raise KeyError("'a': 1")
    except KeyError:
        agent.logger.error("{'a': 1}", exc_info=True)
        agent.logger.exception("again")
    agent.logger.warning("no error", exc_info=True, stack_info=True)
    text = capsys.readouterr().err
    assert "{'a': 1}\nTraceback (most recent call last):\n" in text
    assert text.count("KeyError: \"'a': 1\"") == 2
    assert "no error\nStack (most recent call last):\n" in text


def test_a_lowered_level_shows_more_than_the_level_of_the_agents_log(
    agent: Agent, capsys: pytest.CaptureFixture[str]
) -> None:
    agent_log.configure("INFO", Logging())
    logger.debug("of the agent's other parts")
    agent.logger.setLevel(logging.DEBUG)
    agent.logger.debug("of the subclass")
    agent.logger.log(15, "of a level of its own")
    agent.logger.setLevel(logging.ERROR)
    agent.logger.warning("not shown")
    shown = [line.split()[1:] for line in capsys.readouterr().err.splitlines()]
    assert shown == [["DEBUG", "of", "the", "subclass"], ["Level", "15", "of", "a", "level", "of", "its", "own"]]


def test_handlers_of_the_user_see_the_records(agent: Agent) -> None:
    seen: list[str] = []

    class Mine(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record.getMessage())

    agent.logger.addHandler(Mine())
    agent.logger.info("deployed %s", "r1")
    assert seen == ["deployed r1"]


def test_a_wrong_argument_is_reported_and_raises_nothing(agent: Agent, capsys: pytest.CaptureFixture[str]) -> None:
    logger.configure(handlers=[])
    (handler,) = agent.logger.handlers  # called alone, because pytest's own handler does raise
    handler.handle(logging.makeLogRecord({"name": agent.name, "msg": "%d", "args": ("x",)}))
    assert "--- Logging error ---" in capsys.readouterr().err


def test_a_record_is_one_line_also_below_another_agents_logger(
    agent: Agent, capsys: pytest.CaptureFixture[str]
) -> None:
    agent_log.configure("INFO", Logging(json_lines=True))
    below = Agent(name=f"{agent.name}.east", backend=MemoryBackend())
    below.logger.info("once")
    assert [(line["agent"], line["message"]) for line in json_lines(capsys)] == [(below.name, "once")]


@pytest.mark.parametrize("enqueue", [False, True])
def test_a_program_that_sends_loguru_to_standard_loggers_gets_each_record_once(
    agent: Agent, enqueue: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    lines: list[str] = []

    class ToStandardLogger(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())
            if len(lines) < 3:
                logging.getLogger(record.name).handle(record)

    logger.configure(handlers=[{"sink": ToStandardLogger(), "format": "{message}", "enqueue": enqueue}])
    agent.logger.info("once")
    for _ in range(3):  # one more round would be seen
        logger.complete()
    logger.configure(handlers=[])
    assert (lines, capsys.readouterr().err) == (["once"], "")
