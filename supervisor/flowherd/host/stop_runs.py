"""What happens to the runs when their agent stops: left, waited for, or ended (docs/design.md, section 10).

Also ends runs whose backend was silent too long.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

from loguru import logger

from flowherd.agent.shutdown import FLUSH_TIMEOUT_S, ShutdownRequest, ShutdownWait
from flowherd.host.run_phase import RunPhase
from flowherd.host.run_registry import RunRegistry
from flowherd_runner.contract import reasons


def stop_runs(
    registry: RunRegistry,
    request: ShutdownRequest,
    wait: ShutdownWait,
    usual_deadline_s: float,
    instance: str,
    end_starts: Callable[[bool], None],
) -> None:
    """Leave, drain or end the runs, as `request` says.

    `usual_deadline_s` is a drain's deadline if the request names none. `instance` tells this life of the agent from
    others in the runs' logs. `end_starts` is called for the runs whose runner was not started yet; with True they fail,
    with False they are left to the next agent.
    """
    step = request.on_stop
    detail = "The agent was stopped and ended its flow runs."
    if step == "drain":
        deadline_s = usual_deadline_s if request.deadline_s is None else request.deadline_s
        step = "detach" if _drain(registry, wait, deadline_s, instance) else "cancel"
        detail = "The agent was drained: the flow run had not ended at the deadline."
    end_starts(step == "cancel")
    if step == "cancel":
        _end_all(registry, wait, detail)


def end_without_contact(registry: RunRegistry, silent_s: float, limit_s: float | None) -> None:
    """End the runs if the backend was silent for `limit_s`; None for no limit."""
    if limit_s is None or silent_s < limit_s:
        return
    text = f"The backend had not answered for {limit_s:g} s, the limit of cloud.lost_contact_limit."
    for run in registry.living():
        run.ask_to_stop(reasons.REASON_LOST_CONTACT, text)


def _drain(registry: RunRegistry, wait: ShutdownWait, deadline_s: float, instance: str) -> bool:
    until = datetime.now(timezone.utc) + timedelta(seconds=deadline_s)
    text = f"The agent is draining; this run may go on until {until:%Y-%m-%d %H:%M:%S} UTC and is ended then."
    living = registry.living()
    for run in living:
        run.note(text, logging.WARNING, f"drain-{instance}")
    logger.info("Draining: waiting for {} flow run(s) until {:%Y-%m-%d %H:%M:%S} UTC", len(living), until)
    return wait.until(lambda: not registry.living(), deadline_s)


def _end_all(registry: RunRegistry, wait: ShutdownWait, detail: str) -> None:
    living = registry.living()
    for run in living:
        if run.phase is RunPhase.NOT_STARTED:  # its end is about to be concluded
            continue
        run.ask_to_stop(reasons.REASON_AGENT_STOP, detail)
    longest_s = max((run.grace_s for run in living), default=0.0) + 2 * FLUSH_TIMEOUT_S
    if not wait.until(lambda: not registry.living(), longest_s):
        logger.warning("Not waiting longer for {} flow run(s) to end", len(registry.living()))
