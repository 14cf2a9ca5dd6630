"""What is done with each flow, and what must become of it whichever agent runs it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from tests.peers.ground import Going, Ground
from tests.peers.outcomes import Outcome, outcome
from tests.support.dialect import Client
from tests.support.waiting import wait_until

FINISHED = {"Success", "Failed", "Cancelled", "Skipped", "Finished", "TimedOut"}
#: How long one run may take; many go at once.
RUN_S = 100.0


@dataclass(frozen=True)
class Handle:
    """One run that goes on, for what a person does meanwhile."""

    ground: Ground
    agent: Going
    client: Client
    run_id: str

    @property
    def state(self) -> str:
        return str(self.client.run(self.run_id, "state")["state"])

    def wait_for_task(self, slug: str, state: str) -> dict[str, Any]:
        """The task run, once it is in this state."""

        def found() -> dict[str, Any] | None:
            rows = self.client.run(self.run_id, "task_runs { id version state serialized_state task { slug } }")
            return next(
                (r for r in rows["task_runs"] if r["task"]["slug"].startswith(slug) and r["state"] == state), None
            )

        row = wait_until(found, timeout_s=RUN_S, what=lambda: f"{slug} {state}:\n{outcome(self.client, self.run_id)}")
        assert row is not None
        return row

    def wait_for_line(self, text: str) -> None:
        """Until the log has this message."""

        def there() -> bool:
            return any(text in row["message"] for row in self.client.run(self.run_id, "logs { message }")["logs"])

        wait_until(there, timeout_s=RUN_S, what=lambda: f"{text!r} in\n{outcome(self.client, self.run_id)}")

    def set_task_state(self, task_run: Mapping[str, Any], **state: Any) -> None:
        """Report a state of a task run, as a person's client does."""
        entry = {"task_run_id": task_run["id"], "state": state}
        text = "mutation($input: set_task_run_states_input!) { set_task_run_states(input: $input) { states { id } } }"
        self.client.ask(text, {"input": {"states": [entry]}})
        self.agent.poke()

    def wait_for_end(self) -> Outcome:
        wait_until(
            lambda: self.state in FINISHED,
            timeout_s=RUN_S,
            what=lambda: f"the run's end with {self.agent.kind}:\n{outcome(self.client, self.run_id)}",
        )
        # Prefect's engine reports the end before the last of its log has been sent.
        wait_until(lambda: not self.agent.still_has(self.run_id), timeout_s=RUN_S, what="the end of the run's process")
        return outcome(self.client, self.run_id)


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One flow run, from its creation to its end."""

    flow: str
    #: What runs of the same flow are told apart by.
    name: str = ""
    given: Mapping[str, Any] = field(default_factory=dict)
    parameters: Callable[[str], dict[str, Any]] = lambda who: {}
    #: What a person does while it goes.
    act: Callable[[Handle], None] = lambda handle: None
    ends: str = "Success"
    #: The last states of some tasks' runs, by the beginning of the slug.
    tasks: Mapping[str, list[str]] = field(default_factory=dict)
    #: Messages that must be in the log.
    says: tuple[str, ...] = ()
    #: Messages that must not be.
    never_says: tuple[str, ...] = ("never said",)
    #: Whether the lines' order is the flow's own, and not that of processes side by side.
    ordered: bool = True
    #: Agents whose runs it is for; an end that only flowherd tells is for flowherd's alone.
    agents: tuple[str, ...] = ("real", "flowherd")
    #: The lines of the log that both agents must share; all, if nothing else is said.
    compared: Callable[[str], bool] = lambda message: True
    #: Whether only the new line of Prefect has it.
    new_only: bool = False
    #: The name of a scenario whose run must have ended before.
    after: str | None = None

    @property
    def title(self) -> str:
        return self.name or self.flow

    def is_for(self, agent: str, new: bool) -> bool:
        """Whether this agent is to run it, with the new line of Prefect or the old one."""
        return agent in self.agents and (new or not self.new_only)

    def start(self, ground: Ground, agent: Going, flow_id: str) -> Handle:
        """Create its run, for this agent alone."""
        client = ground.client
        run_id = client.create_run(
            flow_id,
            labels=[agent.kind, os.uname().nodename],
            parameters=self.parameters(agent.kind),
            flow_run_name=self.title,
            idempotency_key=f"{self.title} {agent.kind}",
            **self.given,
        )
        agent.poke()
        return Handle(ground, agent, client, run_id)


def _moved_to_now(handle: Handle) -> None:
    """The long retry's time has come."""
    task_run = handle.wait_for_task("second_time", "Retrying")
    handle.wait_for_line("attempt 1")
    past = datetime.now(timezone.utc) - timedelta(seconds=5)
    handle.set_task_state(task_run, **{**task_run["serialized_state"], "start_time": past.isoformat()})


def _resume(handle: Handle) -> None:
    """A person lets both gates be passed."""
    for slug in ("gate", "by_hand"):
        task_run = handle.wait_for_task(slug, "Paused")
        now = datetime.now(timezone.utc).isoformat()
        handle.set_task_state(task_run, type="Resume", message="by a person", start_time=now)


def _cancel(handle: Handle) -> None:
    handle.wait_for_line("working")
    handle.client.ask(
        "mutation($input: cancel_flow_run_input!) { cancel_flow_run(input: $input) { state } }",
        {"input": {"flow_run_id": handle.run_id}},
    )


def _not_of_the_cache(message: str) -> bool:
    """How many values others have left there, the other agent's run among them, is a matter of time."""
    return "cache" not in message


def _not_of_the_place(message: str) -> bool:
    """Each agent has a directory of its own, and a command's own directory comes first on the old line's path."""
    return not message.startswith(("directory", "path starts"))


def soon() -> str:
    return (datetime.now(timezone.utc) + timedelta(seconds=4)).isoformat()


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        flow="parameters",
        parameters=lambda who: {"must": {"given": True}, "may": 6},
        says=("got 6", "given", "list"),
    ),
    Scenario(flow="results", says=("given {'value': 3}, kept {'value': 3}",)),
    Scenario(flow="targets", says=("made", "got 7"), tasks={"made_once": ["Success", "Cached"]}),
    Scenario(flow="small-result", says=("got [1, 2, 3]",)),
    Scenario(flow="mapping", says=("total 27",), tasks={"pair": ["Mapped"] + ["Success"] * 6}),
    Scenario(flow="mapping-over-nothing", says=("total 0",)),
    Scenario(flow="mapping-with-failures", ends="Failed", says=("2 of 5 failed",)),
    Scenario(flow="mapping-over-many", says=("total 465",)),
    Scenario(
        flow="cached",
        name="cached first",
        parameters=lambda who: {"who": who},
        tasks={"expensive": ["Cached"]},
        compared=_not_of_the_cache,
    ),
    Scenario(
        flow="cached",
        name="cached again",
        parameters=lambda who: {"who": who},
        tasks={"expensive": ["Cached"]},
        never_says=("computed",),
        compared=_not_of_the_cache,
        after="cached first",
    ),
    Scenario(
        flow="failing",
        ends="Failed",
        says=("something failed",),
        tasks={"breaks": ["Failed"], "after": ["TriggerFailed"], "rescue": ["Success"], "fine": ["Success"]},
    ),
    Scenario(flow="reference-tasks", tasks={"breaks": ["Failed"]}),
    Scenario(flow="raising", ends="Failed", never_says=("fine",)),
    Scenario(
        flow="all-signals",
        says=("got ", "last"),
        tasks={"skips": ["Skipped"], "needs_skipped": ["Skipped"], "fails": ["Failed"], "succeeds": ["Success"]},
    ),
    Scenario(flow="branches", says=("went left",), never_says=("went right",)),
    Scenario(flow="looping", says=("round 1", "round 4", "factorial 24")),
    Scenario(
        flow="retrying", ends="Failed", says=("attempt 3",), tasks={"third_time": ["Success"], "never": ["Failed"]}
    ),
    Scenario(flow="mapped-retries", says=("values [1, 2, 3]",)),
    Scenario(flow="long-retry", act=_moved_to_now, says=("attempt 2", "fine, count 2")),
    Scenario(flow="pausing", act=_resume, says=("the gate is open", "by hand")),
    Scenario(flow="timing-out", says=("it took too long",), tasks={"slow": ["TimedOut"]}),
    Scenario(flow="sub-process-killed", ends="Failed", says=("ended with -9",)),
    Scenario(flow="shell", ends="Failed", tasks={"two lines": ["Success"], "killed": ["Failed"]}),
    Scenario(flow="process-killed", ends="Failed", says=("about to be killed",), agents=("flowherd",)),
    Scenario(flow="process-exits", ends="Failed", agents=("flowherd",)),
    Scenario(
        flow="cancelled",
        act=_cancel,
        ends="Cancelled",
        tasks={"work": ["Cancelled"], "after": ["Cancelled"]},
        compared=lambda message: "ancel" not in message and "nterrupt" not in message,
    ),
    Scenario(flow="state-handlers", ends="Failed", says=("watched: Running to Failed",)),
    Scenario(flow="terminal-handler", says=("value 'turned'",)),
    Scenario(flow="leaving-threads-and-children", says=("left both",)),
    Scenario(flow="context", given={"context": {"of_the_run": [1]}}, says=("of the run: [1]",)),
    Scenario(flow="configuration", says=("of the agent known",), compared=_not_of_the_place),
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
    # What Dask's processes log gets lost with the real agent, as often as not.
    Scenario(flow="processes", ordered=False, compared=lambda message: "low run" in message),
    Scenario(flow="dask-cluster", says=("total 55",), ordered=False),
    Scenario(flow="dask-processes", says=("total 55",), ordered=False),
    Scenario(flow="not-there", ends="Failed"),
    Scenario(flow="script", says=("from a script called",)),
    Scenario(flow="parent", parameters=lambda who: {"child": f"child-of-{who}"}),
    Scenario(
        flow="parameters", name="scheduled", given={"scheduled_start_time": None}, parameters=lambda who: {"must": 1}
    ),
    Scenario(flow="local-run", new_only=True, says=("variable of the flow", "token None")),
    Scenario(
        flow="local-run",
        name="with a token",
        given={"run_config": {"type": "LocalRun", "env": {"PREFECT__CONTEXT__SECRETS__TOKEN": "one"}, "labels": []}},
        new_only=True,
        says=("token one", "variable None"),
    ),
    Scenario(
        flow="local-run",
        name="with another token",
        given={"run_config": {"type": "LocalRun", "env": {"PREFECT__CONTEXT__SECRETS__TOKEN": "two"}, "labels": []}},
        new_only=True,
        says=("token two",),
    ),
    Scenario(flow="no-such-directory", new_only=True, ends="Failed"),
    Scenario(flow="docker-run", new_only=True, ends="Failed"),
    Scenario(flow="module", new_only=True, says=("from a module",)),
    Scenario(flow="git", new_only=True, says=("from a repository",)),
    Scenario(flow="run-names", new_only=True, says=("named",)),
    Scenario(flow="artifacts", new_only=True),
)


def write_module(directory: Path) -> None:
    """The module that the flow `module` is in."""
    directory.mkdir()
    (directory / "peers_module.py").write_text(_IN_A_FILE.format(name="module", text="from a module"))


def write_repository(directory: Path, run: Callable[..., Any]) -> None:
    """The repository that the flow `git` is in."""
    directory.mkdir()
    (directory / "flow.py").write_text(_IN_A_FILE.format(name="git", text="from a repository"))
    author = ("-c", "user.name=peers", "-c", "user.email=peers@example.com")
    for arguments in (("init", "-q"), ("add", "."), (*author, "commit", "-q", "-m", "a flow")):
        run(["git", *arguments], cwd=directory, check=True, capture_output=True)


_IN_A_FILE = """
import prefect
from prefect import Flow, task

@task
def tell():
    prefect.context.get("logger").info({text!r})

with Flow({name!r}) as flow:
    tell()
"""


def names(flows_file: Path) -> dict[str, str]:
    """The registered flows' ids."""
    found: dict[str, str] = json.loads(flows_file.read_text())
    return found
