"""The outbox of a run: state reports that the backend has not acknowledged, and its form on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flowherd.end_figures import known_figures
from flowherd.host.store.records import checked_count, checked_pid, checked_text
from flowherd.phase_times import known_phases
from flowherd.states import FINISHED, WAITING, RunState
from flowherd.times import read_time
from flowherd.values import StateReport

_BEFORE_THE_END = frozenset({RunState.SUBMITTED, RunState.RUNNING})


@dataclass(frozen=True, kw_only=True)
class Outbox:
    """State reports that the backend has not acknowledged, oldest first."""

    reports: tuple[StateReport, ...] = ()
    #: Whether the run's end is concluded; if `reports` is empty too, the backend knows everything.
    final: bool = False
    #: The state after all the reports, acknowledged or not. Once `final`, it can also be a state in which the flow run
    #: waits for its next start, which gets a fresh directory.
    state: RunState = RunState.SUBMITTED


def outbox_to_json(outbox: Outbox) -> dict[str, Any]:
    """Return the outbox as a JSON object."""
    reports = [report_to_json(report) for report in outbox.reports]
    return {"reports": reports, "final": outbox.final, "state": outbox.state.value}


def report_to_json(report: StateReport) -> dict[str, Any]:
    """Return a report as a JSON object; what it does not say of phases, figures and account is left out."""
    objects = {"phases": dict(report.phases), "figures": dict(report.figures), "account": dict(report.account or {})}
    whole = {**vars(report), "state": report.state.value, "at": report.at.isoformat(), **objects}
    return {name: value for name, value in whole.items() if value != {}}


def outbox_from_json(record: Mapping[str, Any], flow_run_id: str) -> Outbox:
    """Return the outbox that a JSON object describes.

    The reports are of `flow_run_id`, whatever the object says: a damaged file must not report about another run.

    Raises KeyError, TypeError, ValueError or OverflowError when it is damaged.
    """
    reports = tuple(report_from_json(item, flow_run_id) for item in record["reports"])
    outbox = Outbox(reports=reports, final=record["final"], state=RunState(record["state"]))
    if outbox.final is not (outbox.state in FINISHED | WAITING):
        raise ValueError(f"final is {outbox.final!r} in state {outbox.state}")
    if not outbox.final and outbox.state not in _BEFORE_THE_END:
        raise ValueError(f"a run on a host is never {outbox.state}")
    return outbox


def report_from_json(item: Any, flow_run_id: str) -> StateReport:
    """Return the report of a run that a JSON object describes; raises as `outbox_from_json` does."""
    if not isinstance(item, Mapping):
        raise TypeError(f"not a report: {item!r:.100}")
    version, pid = item.get("version"), item.get("pid")
    optional = {name: item[name] for name in ("claim", "reason", "grade") if item.get(name) is not None}
    return StateReport(
        flow_run_id=flow_run_id,
        state=RunState(item["state"]),
        message=checked_text(item["message"]),
        at=read_time(checked_text(item["at"]), naive="refuse"),
        version=None if version is None else checked_count(version),
        pid=None if pid is None else checked_pid(pid),
        phases=known_phases(item.get("phases")),
        figures=known_figures(item.get("figures")),
        account=item["account"] if isinstance(item.get("account"), dict) else None,
        of_process=item.get("of_process") is True,
        **{name: checked_text(value) for name, value in optional.items()},
    )
