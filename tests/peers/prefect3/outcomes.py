"""What a Prefect 3 server has of a flow run that has ended, in a form that two runs of the same flow share."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from tests.peers.normalised import PARTICULARS, normalised
from tests.peers.prefect3.prefect_server import PrefectServer

#: Beginnings of the names of loggers that belong to the agents and not to the flow.
_AGENT_LOGGERS = ("prefect.flow_runs.worker", "prefect.flow_runs.runner", "prefect.runner", "flowherd")
#: Lines of the worker's process that looks for hooks of a flow that cannot be loaded, and about heartbeats, which
#: flowherd does not start for a short run.
_NOT_COMPARED = (
    "Runner failed to retrieve flow to execute",
    "Started flow run heartbeat context",
    "Stopped flow run heartbeat context",
)
_PARTICULARS = (
    # The frames of a traceback inside Prefect depend on which of its threads is first.
    (re.compile(r' *File "[^"]*/(?:lib/python3|flowherd_runner/)[^"]*", line \d+, in .*\n(?: {4,}.*\n)*'), ""),
    *PARTICULARS,
    (re.compile(r"\b[0-9a-f]{32}\b"), "HASH"),
    (re.compile(r"(?<![a-z])(theirs|ours)\b"), "WHO"),
    # The engine's own names of task runs, and of subflow runs without a name.
    (re.compile(r"\b(\w+)-[0-9a-f]{3}\b"), r"\1-KEY"),
    (re.compile(r"/[\w./~-]*?/(runs/UUID/\w+|tmp\w{8}(?:prefect)?|prefect-[\w-]+)(?=[/'\"\s:]|$)"), "/FRESH"),
    (re.compile(r"in \d+(\.\d+)? second"), "in N second"),
)


class Line(NamedTuple):
    logger: str
    level: int
    text: str
    task: str


@dataclass(frozen=True)
class Outcome:
    """All that is compared of one flow run."""

    #: Types and names.
    states: list[tuple[str, str]]
    message: str
    tasks: list[tuple[Any, ...]]
    subflows: list[tuple[Any, ...]]
    lines: list[Line]
    facts: dict[str, Any]

    def __str__(self) -> str:
        parts = [f"{name}: {value}" for name, value in vars(self).items() if name != "lines"]
        return "\n".join([*parts, *map(str, self.lines)])


def outcome(prefect: PrefectServer, run_id: str) -> Outcome:
    """Read what the server has of a run now."""
    run = prefect.run(run_id)
    children = _tasks(prefect, run_id)
    subflows = list(_subflows(prefect, children))
    unnamed = [row for row in subflows if re.fullmatch(r"[a-z]+-[a-z]+", row["name"])]
    words = {row["name"]: f"run of {row['flow']}" for row in unnamed}
    names = {row["id"]: row["name"] for row in children}
    return Outcome(
        states=_states(prefect, f"/flow_run_states/?flow_run_id={run_id}"),
        message=plain(run["state"]["message"] or "", words),
        tasks=sorted(_task(prefect, row, words) for row in children),
        subflows=sorted(_subflow(prefect, row, words) for row in subflows),
        lines=_lines(prefect, run_id, names, words),
        facts=_facts(prefect, run, words),
    )


def plain(text: str, words: dict[str, str] | None = None) -> str:
    """Replace ids, times and directories, and the names that `words` has something for."""
    for name, word in (words or {}).items():
        text = text.replace(name, word)
    return normalised(text, _PARTICULARS)


def _tasks(prefect: PrefectServer, run_id: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = prefect.ask("POST", "/task_runs/filter", {"flow_runs": {"id": {"any_": [run_id]}}})
    return rows


def _task(prefect: PrefectServer, row: dict[str, Any], words: dict[str, str]) -> tuple[Any, ...]:
    states = _states(prefect, f"/task_run_states/?task_run_id={row['id']}")
    message = plain((row["state"] or {}).get("message") or "", words)
    # The task run that stands for a deployment's run has a random name.
    name = re.sub(r"^[a-z]+-[a-z]+$", "NAME", plain(row["name"], words))
    return name, states, message, row["run_count"], sorted(row["tags"])


def _subflows(prefect: PrefectServer, tasks: list[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    if not tasks:
        return
    asked = {"flow_runs": {"parent_task_run_id": {"any_": [row["id"] for row in tasks]}}}
    for row in prefect.ask("POST", "/flow_runs/filter", asked):
        yield {**row, "flow": prefect.ask("GET", f"/flows/{row['flow_id']}")["name"]}


def _subflow(prefect: PrefectServer, row: dict[str, Any], words: dict[str, str]) -> tuple[Any, ...]:
    states = _states(prefect, f"/flow_run_states/?flow_run_id={row['id']}")
    lines = _lines(prefect, row["id"], {}, words)
    message = plain(row["state"]["message"] or "", words)
    return row["flow"], plain(row["name"], words), states, message, row["run_count"], str(row["parameters"]), lines


def _states(prefect: PrefectServer, path: str) -> list[tuple[str, str]]:
    """Return types and names, oldest first, without Pending: each agent claims in its own way."""
    rows = sorted(prefect.ask("GET", path), key=lambda row: str(row["timestamp"]))
    return [(row["type"], row["name"]) for row in rows if row["type"] != "PENDING"]


def _lines(prefect: PrefectServer, run_id: str, tasks: dict[str, str], words: dict[str, str]) -> list[Line]:
    return [
        Line(row["name"], row["level"], plain(row["message"], words), plain(tasks.get(row["task_run_id"], "")))
        for row in prefect.log(run_id)
        if not row["name"].startswith(_AGENT_LOGGERS) and not row["message"].startswith(_NOT_COMPARED)
    ]


def _facts(prefect: PrefectServer, run: dict[str, Any], words: dict[str, str]) -> dict[str, Any]:
    asked = {"artifacts": {"flow_run_id": {"any_": [run["id"]]}}}
    artifacts = prefect.ask("POST", "/artifacts/filter", asked)
    return {
        "name": plain(run["name"], words),
        "run_count": run["run_count"],
        "tags": sorted(run["tags"]),
        "parameters": plain(str(run["parameters"])),
        "flow_version": run["flow_version"],
        "artifacts": sorted(plain(f"{row['type']} {row['key']} {row['data']}") for row in artifacts),
    }
