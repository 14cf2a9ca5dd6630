"""What an agent does for SIGHUP, SIGUSR1 and SIGUSR2: reload, write its state to its log, open its log file again."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

from loguru import logger

from flowherd.agent import agent_log
from flowherd.shown_text import one_line
from flowherd.signals import Actions, guarded
from flowherd.thread_lines import thread_lines

if TYPE_CHECKING:
    from flowherd.agent.agent_parts import AgentParts


def signal_actions(agent: AgentParts) -> Actions:
    """Return what the agent does for each of these signals. The actions raise nothing."""
    return {
        signal.SIGHUP: guarded("reload", lambda: _reload(agent)),
        signal.SIGUSR1: guarded("write the agent's state", lambda: _write_state(agent)),
        signal.SIGUSR2: guarded("open the log file again", _reopen),
    }


def _reload(agent: AgentParts) -> None:
    if agent.control.shutdown_request is not None:
        logger.info("SIGHUP: not reloading, because the agent is stopping")
        return
    agent._own_reload.carry_out("SIGHUP")


def _reopen() -> None:
    for path in agent_log.reopen():
        logger.info("SIGUSR2: opened the log file {} again", path)
        return
    logger.info("SIGUSR2: the log goes to no file that could be opened again (setting logging.file)")


def _write_state(agent: AgentParts) -> None:
    for line in state_lines(agent):
        logger.info("State: {}", line, action="state")


def state_lines(agent: AgentParts) -> Iterator[str]:
    """Yield what the agent is doing, line by line: itself, its claims, its runs and its threads."""
    health, figures, request = agent.health(), agent._own_figures(), agent.control.shutdown_request
    state = health.reason or (request.word if request else "well")
    limit = "no limit" if figures.limit is None else f"limit {figures.limit}"
    yield one_line(f"agent {agent.name}: {state}; {figures.runs} run(s), {limit}")
    connection = agent._own_connection
    answered = "never" if connection.last_contact_s is None else f"{connection.silent_s():.1f} s ago"
    held = f", not contacted for another {connection.pause_s():.0f} s" if connection.pause_s() else ""
    yield one_line(f"backend {_address(agent)}: last answer {answered}{held}")
    pause = health.claim_pause
    full = ", ".join(f"{label} ({limit})" for label, limit in figures.full_labels.items())
    reasons = [pause.reason if pause else "", f"no more runs with the labels {full}" if full else ""]
    if figures.limit is not None and figures.runs >= figures.limit:
        reasons.append("the limit is reached")
    yield one_line(f"claiming: {'; '.join(filter(None, reasons)) or 'nothing prevents it'}")
    uncertain = sorted(agent._own_claims.uncertain)
    yield one_line(f"claims without an answer: {', '.join(uncertain) or 'none'}")
    yield one_line(f"being deployed: {', '.join(sorted(agent.submitting_flow_runs)) or 'none'}")
    for run in agent._own_platform.living_runs():
        facts = (f"{name} {value}" for name, value in run.items() if value not in (None, "", [], {}))
        yield one_line(f"run {', '.join(facts)}")
    yield from thread_lines()


def _address(agent: AgentParts) -> str:
    try:
        return agent._own_connection.address
    except Exception as error:  # none is configured
        return f"not known ({error})"
