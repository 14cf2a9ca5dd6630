"""What became of a run, as the embedded server shows it, in a form that two runs of the same flow share."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tests.peers.normalised import PARTICULARS, normalised
from tests.support.dialect import Client

_RUN = """
    state state_message name
    states(order_by: {version: asc}) { state }
    task_runs(order_by: [{map_index: asc}, {id: asc}]) {
      id map_index state name task { slug } states(order_by: {version: asc}) { state }
    }
    logs(order_by: [{timestamp: asc}, {id: asc}]) { name level message task_run_id info }
"""
_PARTICULARS = (
    *PARTICULARS,
    (re.compile(r"\b(child-of|agent)-(theirs|ours)\b"), r"\1-WHO"),
    (re.compile(r"\bfor (theirs|ours)$"), "for WHO"),
    (re.compile(r"http://127\.0\.0\.1:\d+"), "ADDRESS"),
    (re.compile(r"http://[\d.]+:\d+/status"), "DASHBOARD"),
    (re.compile(r"tcp://[\d.]+:\d+|inproc://\S+"), "CLUSTER"),
    (re.compile(r"prefect-result-[\w-]+"), "RESULT"),
    (re.compile(r"tmp[\w]{8}\b"), "TEMPORARY"),
    (re.compile(r"\b\d+\.\d+ seconds"), "SECONDS"),
)
#: Fields of a record that are others in each run; only that they are there, and of which type, is compared.
_OF_THE_MOMENT = frozenset({"asctime", "msecs", "relativeCreated", "thread", "process"})
#: 0.x logs each of its periodic looks at the stored state: how many there are depends on time.
_PERIODICAL = ("Checking flow run state", "Successfully queried server for flow run state")
#: Beginnings of the names of the flow's own loggers; the agents' loggers have other names.
_LOGGERS = ("prefect", "peers.extra")


@dataclass(frozen=True)
class Line:
    """One record of a logger of the flow's."""

    logger: str
    level: str
    message: str
    #: Slug of the task whose run has written it, if any.
    task: str | None
    #: All other fields that 0.x sends, those of `extra=` included, as JSON.
    info: str


@dataclass(frozen=True)
class Outcome:
    """All that is compared between two agents."""

    run_id: str
    state: str
    message: str
    #: All states of the run, oldest first.
    history: list[str]
    #: All states of each task run, by slug and map index.
    tasks: dict[tuple[str, int], list[str]]
    lines: list[Line]
    name: str
    #: The whole log, of all writers, for the message of a failed test.
    log: list[str]

    def end_of(self, task: str) -> list[str]:
        """Return the final states of a task's runs by map index; `task` is the beginning of its slug."""
        found = sorted(key for key in self.tasks if key[0].startswith(task))
        return [self.tasks[key][-1] for key in found]

    @property
    def messages(self) -> list[str]:
        return [line.message for line in self.lines]

    def __str__(self) -> str:
        return "\n".join(
            [f"{self.run_id} {' '.join(self.history)}: {self.message}", *map(str, self.tasks.items()), *self.log]
        )


def outcome(client: Client, run_id: str) -> Outcome:
    """Read what the server has of a run now."""
    run = client.run(run_id, _RUN)
    slugs = {task_run["id"]: task_run["task"]["slug"] for task_run in run["task_runs"]}
    return Outcome(
        run_id=run_id,
        state=run["state"],
        message=run["state_message"] or "",
        history=_names(run["states"]),
        tasks={(row["task"]["slug"], row["map_index"]): _names(row["states"]) for row in run["task_runs"]},
        lines=[_line(row, slugs) for row in run["logs"] if _is_of_the_flow(row)],
        name=run["name"],
        log=[
            f"{row['name']} {row['level']} {json.dumps(row['info'])[:60]} {row['message'][:400]}" for row in run["logs"]
        ],
    )


def _names(states: Iterable[dict[str, Any]]) -> list[str]:
    return [state["state"] for state in states]


def _is_of_the_flow(row: dict[str, Any]) -> bool:
    # flowherd keeps with each line where it comes from; what was printed belongs to no logger.
    stream = (row["info"] or {}).get("stream", "log") if isinstance(row["info"], dict) else "log"
    periodical = str(row["message"]).startswith(_PERIODICAL)
    return stream == "log" and str(row["name"]).startswith(_LOGGERS) and not periodical


def _line(row: dict[str, Any], slugs: dict[str, str]) -> Line:
    message = normalised(row["message"], _PARTICULARS)
    return Line(row["name"], row["level"], message, slugs.get(row["task_run_id"]), _info(row["info"]))


def _info(info: Any) -> str:
    fields = {name: value for name, value in (info or {}).items() if name != "stream"}
    for name in {"threadName", "processName"} & set(fields):  # Dask's have pids and numbers in them
        fields[name] = re.sub(r"\d+", "N", str(fields[name]))
    shown = {
        name: type(value).__name__ if name in _OF_THE_MOMENT else normalised(json.dumps(value), _PARTICULARS)
        for name, value in fields.items()
    }
    return json.dumps(shown, sort_keys=True)
