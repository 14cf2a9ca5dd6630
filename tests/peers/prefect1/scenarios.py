"""What is done with each flow of flows/, and what must become of it, whichever agent runs it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from tests.peers.agent_processes import BOTH, OURS, AgentProcess
from tests.peers.compared_runs import RunInProgress
from tests.peers.prefect1.outcomes import Outcome, outcome
from tests.peers.prefect1.workspace import Workspace
from tests.support.dialect import Client

_FINISHED = {"Success", "Failed", "Cancelled", "Skipped", "Finished", "TimedOut"}


@dataclass(frozen=True)
class Prefect1Run(RunInProgress):
    """One run at the embedded server."""

    client: Client

    @property
    def state(self) -> str:
        return str(self.client.run(self.run_id, "state")["state"])

    def story(self) -> str:
        return f"{self.agent.name}:\n{outcome(self.client, self.run_id)}"

    def wait_for_task(self, slug: str, state: str) -> dict[str, Any]:
        """Return the task run once it is in this state."""
        found: list[dict[str, Any]] = []

        def there() -> bool:
            rows = self.client.run(self.run_id, "task_runs { id version state serialized_state task { slug } }")
            found[:] = [
                row for row in rows["task_runs"] if row["task"]["slug"].startswith(slug) and row["state"] == state
            ]
            return bool(found)

        self.wait(there)
        return found[0]

    def wait_for_line(self, text: str) -> None:
        """Wait until the log has this message."""
        self.wait(
            lambda: any(text in row["message"] for row in self.client.run(self.run_id, "logs { message }")["logs"])
        )

    def set_task_state(self, task_run: Mapping[str, Any], **state: Any) -> None:
        """Report a state of a task run, as a person's client does."""
        entry = {"task_run_id": task_run["id"], "state": state}
        text = "mutation($input: set_task_run_states_input!) { set_task_run_states(input: $input) { states { id } } }"
        self.client.ask(text, {"input": {"states": [entry]}})
        self.agent.poke()

    def wait_for_end(self) -> Outcome:
        self.wait(lambda: self.state in _FINISHED)
        # Prefect's engine reports the end before it has sent the last of its log.
        self.wait_for_rest()
        return outcome(self.client, self.run_id)


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One flow run, from its creation to its end."""

    flow: str
    #: Name of the run, where several are of one flow.
    name: str = ""
    given: Mapping[str, Any] = field(default_factory=dict)
    #: Parameters, by the name of the agent.
    parameters: Callable[[str], dict[str, Any]] = lambda agent: {}
    #: What a person does while the run goes on.
    act: Callable[[Prefect1Run], None] = lambda run: None
    ends: str = "Success"
    #: Final states of some tasks' runs, by the beginning of the slug.
    tasks: Mapping[str, list[str]] = field(default_factory=dict)
    #: Messages that must be in the log.
    says: tuple[str, ...] = ()
    #: Messages that must not be in the log.
    never_says: tuple[str, ...] = ("never said",)
    #: Whether the lines have an order: not where processes or threads write side by side.
    ordered: bool = True
    #: The agents that run it; an end that only flowherd reports is for flowherd alone.
    agents: tuple[str, ...] = BOTH
    #: Whether a line of the log must be the same with both agents.
    compared: Callable[[str], bool] = lambda message: True
    #: Whether it needs Prefect 1.x.
    prefect_1_only: bool = False
    #: Whether the engine alone decides what becomes of it; such a scenario is run with --full only.
    engine_alone: bool = False
    #: Title of a scenario whose run must have ended before.
    after: str | None = None

    @property
    def title(self) -> str:
        return self.name or self.flow

    def start(self, workspace: Workspace, agent: AgentProcess, flow_id: str) -> Prefect1Run:
        """Create its run, for this agent alone."""
        client = workspace.client
        run_id = client.create_run(
            flow_id,
            labels=[agent.name, os.uname().nodename],
            parameters=self.parameters(agent.name),
            flow_run_name=self.title,
            idempotency_key=f"{self.title} {agent.name}",
            **self.given,
        )
        agent.poke()
        return Prefect1Run(agent, run_id, client)


def _make_retry_due(run: Prefect1Run) -> None:
    """Move the start time of the long retry into the past."""
    task_run = run.wait_for_task("second_time", "Retrying")
    run.wait_for_line("attempt 1")
    past = datetime.now(timezone.utc) - timedelta(seconds=5)
    run.set_task_state(task_run, **{**task_run["serialized_state"], "start_time": past.isoformat()})


def _resume(run: Prefect1Run) -> None:
    """Resume both tasks that wait for a person."""
    for slug in ("gate", "by_hand"):
        task_run = run.wait_for_task(slug, "Paused")
        now = datetime.now(timezone.utc).isoformat()
        run.set_task_state(task_run, type="Resume", message="by a person", start_time=now)


def _cancel(run: Prefect1Run) -> None:
    run.wait_for_line("working")
    run.client.ask(
        "mutation($input: cancel_flow_run_input!) { cancel_flow_run(input: $input) { state } }",
        {"input": {"flow_run_id": run.run_id}},
    )


def _is_not_about_the_cache(message: str) -> bool:
    """How many values other runs have left in the cache, the other agent's among them, depends on time."""
    return "cache" not in message


def _is_not_about_directories(message: str) -> bool:
    """Each agent has its own directory, and in 0.x a command's own directory comes first on the path."""
    return not message.startswith(("directory", "path starts"))


def in_four_seconds() -> str:
    return (datetime.now(timezone.utc) + timedelta(seconds=4)).isoformat()


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        flow="parameters",
        parameters=lambda agent: {"must": {"given": True}, "may": 6},
        says=("got 6", "given", "list"),
    ),
    Scenario(flow="results", says=("given {'value': 3}, kept {'value': 3}",)),
    Scenario(flow="targets", engine_alone=True, says=("made", "got 7"), tasks={"made_once": ["Success", "Cached"]}),
    Scenario(flow="small-result", says=("got [1, 2, 3]",)),
    Scenario(flow="mapping", engine_alone=True, says=("total 27",), tasks={"pair": ["Mapped"] + ["Success"] * 6}),
    Scenario(flow="mapping-over-nothing", engine_alone=True, says=("total 0",)),
    Scenario(flow="mapping-with-failures", engine_alone=True, ends="Failed", says=("2 of 5 failed",)),
    Scenario(flow="mapping-over-many", engine_alone=True, says=("total 465",)),
    Scenario(
        flow="cached",
        engine_alone=True,
        name="cached first",
        parameters=lambda agent: {"who": agent},
        tasks={"expensive": ["Cached"]},
        compared=_is_not_about_the_cache,
    ),
    Scenario(
        flow="cached",
        engine_alone=True,
        name="cached again",
        parameters=lambda agent: {"who": agent},
        tasks={"expensive": ["Cached"]},
        never_says=("computed",),
        compared=_is_not_about_the_cache,
        after="cached first",
    ),
    Scenario(
        flow="failing",
        ends="Failed",
        says=("something failed",),
        tasks={"breaks": ["Failed"], "after": ["TriggerFailed"], "rescue": ["Success"], "fine": ["Success"]},
    ),
    Scenario(flow="reference-tasks", engine_alone=True, tasks={"breaks": ["Failed"]}),
    Scenario(flow="raising", engine_alone=True, ends="Failed", never_says=("fine",)),
    Scenario(
        flow="all-signals",
        engine_alone=True,
        says=("got ", "last"),
        tasks={"skips": ["Skipped"], "needs_skipped": ["Skipped"], "fails": ["Failed"], "succeeds": ["Success"]},
    ),
    Scenario(flow="branches", engine_alone=True, says=("went left",), never_says=("went right",)),
    Scenario(flow="looping", engine_alone=True, says=("round 1", "round 4", "factorial 24")),
    Scenario(
        flow="retrying", ends="Failed", says=("attempt 3",), tasks={"third_time": ["Success"], "never": ["Failed"]}
    ),
    Scenario(flow="mapped-retries", engine_alone=True, says=("values [1, 2, 3]",)),
    Scenario(flow="long-retry", act=_make_retry_due, says=("attempt 2", "fine, count 2")),
    Scenario(flow="pausing", act=_resume, says=("the gate is open", "by hand")),
    Scenario(flow="timing-out", engine_alone=True, says=("it took too long",), tasks={"slow": ["TimedOut"]}),
    Scenario(flow="sub-process-killed", ends="Failed", says=("ended with -9",)),
    Scenario(flow="shell", ends="Failed", tasks={"two lines": ["Success"], "killed": ["Failed"]}),
    Scenario(flow="process-killed", ends="Failed", says=("about to be killed",), agents=(OURS,)),
    Scenario(flow="process-exits", ends="Failed", agents=(OURS,)),
    Scenario(
        flow="cancelled",
        act=_cancel,
        ends="Cancelled",
        tasks={"work": ["Cancelled"], "after": ["Cancelled"]},
        compared=lambda message: "ancel" not in message and "nterrupt" not in message,
    ),
    Scenario(flow="state-handlers", engine_alone=True, ends="Failed", says=("watched: Running to Failed",)),
    Scenario(flow="terminal-handler", engine_alone=True, says=("value 'turned'",)),
    Scenario(flow="leaving-threads-and-children", says=("left both",)),
    Scenario(flow="context", given={"context": {"of_the_run": [1]}}, says=("of the run: [1]",)),
    Scenario(flow="configuration", says=("of the agent known",), compared=_is_not_about_directories),
    Scenario(flow="secrets", says=("got 'hush'", "got 'known'")),
    Scenario(flow="leaves-marks", says=("marked",)),
    Scenario(
        flow="finds-no-marks",
        says=("environment None", "context None", "configuration None", "module False", "secret of another run"),
        after="leaves-marks",
    ),
    Scenario(flow="logging-of-all-kinds", says=("by an extra logger", "error with ünïcode \u2603")),
    Scenario(flow="log-stdout", says=("printed and logged", "twice"), never_says=("not logged",)),
    Scenario(flow="many-lines", says=("line 0", "line 4999")),
    Scenario(flow="at-exit"),
    Scenario(flow="threads", says=("total 55",), ordered=False),
    # What Dask's processes log gets lost with the LocalAgent, about every second time.
    Scenario(flow="processes", engine_alone=True, ordered=False, compared=lambda message: "low run" in message),
    Scenario(flow="dask-cluster", says=("total 55",), ordered=False),
    Scenario(flow="dask-processes", says=("total 55",), ordered=False),
    Scenario(flow="not-there", ends="Failed"),
    Scenario(flow="script", says=("from a script called",)),
    Scenario(flow="parent", parameters=lambda agent: {"child": f"child-of-{agent}"}),
    Scenario(
        flow="parameters", name="scheduled", given={"scheduled_start_time": None}, parameters=lambda agent: {"must": 1}
    ),
    Scenario(flow="local-run", prefect_1_only=True, says=("variable of the flow", "token None")),
    Scenario(
        flow="local-run",
        name="with a token",
        given={"run_config": {"type": "LocalRun", "env": {"PREFECT__CONTEXT__SECRETS__TOKEN": "one"}, "labels": []}},
        prefect_1_only=True,
        says=("token one", "variable None"),
    ),
    Scenario(
        flow="local-run",
        name="with another token",
        given={"run_config": {"type": "LocalRun", "env": {"PREFECT__CONTEXT__SECRETS__TOKEN": "two"}, "labels": []}},
        prefect_1_only=True,
        says=("token two",),
    ),
    Scenario(flow="no-such-directory", prefect_1_only=True, ends="Failed"),
    Scenario(flow="docker-run", prefect_1_only=True, ends="Failed"),
    Scenario(flow="module", prefect_1_only=True, says=("from a module",)),
    Scenario(flow="git", prefect_1_only=True, says=("from a repository",)),
    Scenario(flow="run-names", prefect_1_only=True, says=("named",)),
    Scenario(flow="artifacts", prefect_1_only=True),
)


def write_module(directory: Path) -> None:
    """Write the module that contains the flow `module`."""
    directory.mkdir()
    (directory / "peers_module.py").write_text(_IN_A_FILE.format(name="module", text="from a module"))


def write_repository(directory: Path, run: Callable[..., Any]) -> None:
    """Write the repository that contains the flow `git`."""
    directory.mkdir()
    (directory / "flow.py").write_text(_IN_A_FILE.format(name="git", text="from a repository"))
    author = ("-c", "user.name=peers", "-c", "user.email=peers@example.com")
    for arguments in (("init", "-q"), ("add", "."), (*author, "commit", "-q", "-m", "a flow")):
        run(["git", *arguments], cwd=directory, check=True, capture_output=True)


_IN_A_FILE = """
import prefect
from prefect import Flow, task

@task
def log_value():
    prefect.context.get("logger").info({text!r})

with Flow({name!r}) as flow:
    log_value()
"""


def registered_flows(flows_file: Path) -> dict[str, str]:
    """Read the ids of the registered flows by their names."""
    found: dict[str, str] = json.loads(flows_file.read_text())
    return found
