"""What became of a run, as a server tells it: its end, its tasks' ends, its log; in a form that two runs can share."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tests.support.dialect import Client

_RUN = """
    state state_message name
    states(order_by: {version: asc}) { state }
    task_runs(order_by: [{map_index: asc}, {id: asc}]) {
      id map_index state name task { slug } states(order_by: {version: asc}) { state }
    }
    logs(order_by: [{timestamp: asc}, {id: asc}]) { name level message task_run_id info }
"""
#: What differs between two runs of the same flow, and what stands for it.
_PARTICULARS = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "UUID"),
    (re.compile(r"0x[0-9a-f]{6,}"), "ADDRESS"),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?([+-]\d\d:?\d\d)?"), "TIME"),
    (re.compile(r"\b[Pp][Ii][Dd]:? \d+"), "PID"),
    (re.compile(r"\b(child-of|agent)-(real|flowherd)\b"), r"\1-WHO"),
    (re.compile(r"\bfor (real|flowherd)$"), "for WHO"),
    (re.compile(r"http://127\.0\.0\.1:\d+"), "ADDRESS"),
    (re.compile(r"tcp://[\d.]+:\d+|inproc://\S+"), "CLUSTER"),
    (re.compile(r"prefect-result-[\w-]+"), "RESULT"),
    (re.compile(r"tmp[\w]{8}\b"), "TEMPORARY"),
    (re.compile(r"\b\d+\.\d+ seconds"), "SECONDS"),
)
#: Of the old line's look at the stored state every so often: how many there are is a matter of time.
_PERIODICAL = ("Checking flow run state", "Successfully queried server for flow run state")
#: Loggers whose lines are the flow's, by the beginnings of their names; the agents' own are called otherwise.
_LOGGERS = ("prefect", "peers.extra")


@dataclass(frozen=True)
class Line:
    """One record of a logger of the flow's."""

    logger: str
    level: str
    message: str
    #: The slug of the task whose run it was written in, or nothing.
    task: str | None


@dataclass(frozen=True)
class Outcome:
    """All that is compared between two agents."""

    run_id: str
    state: str
    message: str
    #: The states that the run went through.
    history: list[str]
    #: By slug and map index: the states that the task run went through.
    tasks: dict[tuple[str, int], list[str]]
    lines: list[Line]
    name: str
    #: The whole log, of everybody, for a failed test's message.
    log: list[str]

    def end_of(self, task: str) -> list[str]:
        """The last states of a task's runs, by map index; the task is named by the beginning of its slug."""
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
    """What the server knows about a run now."""
    run = client.run(run_id, _RUN)
    slugs = {task_run["id"]: task_run["task"]["slug"] for task_run in run["task_runs"]}
    return Outcome(
        run_id=run_id,
        state=run["state"],
        message=run["state_message"] or "",
        history=_names(run["states"]),
        tasks={(row["task"]["slug"], row["map_index"]): _names(row["states"]) for row in run["task_runs"]},
        lines=[_line(row, slugs) for row in run["logs"] if _of_the_flow(row)],
        name=run["name"],
        log=[
            f"{row['name']} {row['level']} {json.dumps(row['info'])[:60]} {row['message'][:400]}" for row in run["logs"]
        ],
    )


def without_particulars(message: str) -> str:
    """A message in which what no two runs share is replaced."""
    for pattern, word in _PARTICULARS:
        message = pattern.sub(word, message)
    return message


def _names(states: Iterable[dict[str, Any]]) -> list[str]:
    return [state["state"] for state in states]


def _of_the_flow(row: dict[str, Any]) -> bool:
    # flowherd tells of each line where it comes from; what was printed is not of a logger.
    stream = (row["info"] or {}).get("stream", "log") if isinstance(row["info"], dict) else "log"
    periodical = str(row["message"]).startswith(_PERIODICAL)
    return stream == "log" and str(row["name"]).startswith(_LOGGERS) and not periodical


def _line(row: dict[str, Any], slugs: dict[str, str]) -> Line:
    return Line(row["name"], row["level"], without_particulars(row["message"]), slugs.get(row["task_run_id"]))
