"""What is done with each flow of programs/compared, and what must become of it, whichever agent runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from tests.peers.prefect3.workspace import TERMINAL, Prefect3Run, Workspace


def do_nothing(run: Prefect3Run) -> None:
    """Leave the run alone."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One flow run of a deployment of its own, from its creation to its end."""

    title: str
    #: The deployment's; words in single braces are replaced by Workspace.fill.
    entrypoint: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    job_variables: Mapping[str, Any] = field(default_factory=dict)
    #: What else prefect.yaml has for the deployment.
    deployed: Callable[[Workspace], Mapping[str, Any]] = lambda workspace: {}
    #: What else is given with the run.
    given: Mapping[str, Any] = field(default_factory=dict)
    #: What a person does while the run goes on.
    act: Callable[[Prefect3Run], None] = do_nothing
    ends: str = "COMPLETED"
    #: Whether the lines have an order: not where threads write side by side.
    ordered: bool = True
    #: Whether it is in the usual run; the others are with --full only.
    core: bool = False
    #: Parts that differ on purpose (docs/prefect.md says why): states, message, tasks, subflows, lines, facts.
    differs: frozenset[str] = frozenset()


def of(entrypoint: str, title: str = "", **facts: Any) -> Scenario:
    name = title or entrypoint.partition(":")[2].replace("_", " ")
    return Scenario(title=name, entrypoint=entrypoint, **facts)


def core(entrypoint: str, title: str = "", **facts: Any) -> Scenario:
    return of(entrypoint, title, core=True, **facts)


def crashing(entrypoint: str, title: str = "", **facts: Any) -> Scenario:
    """A run whose engine reports no end: the worker reports a status, flowherd the cause."""
    return of(entrypoint, title, ends="CRASHED", differs=frozenset({"message"}), **facts)


# -- what a person does


def resume(content: Any = None, suspended: bool = False) -> Callable[[Prefect3Run], None]:
    """Resume the run once it is paused; the process of a suspended run has ended before."""

    def act(run: Prefect3Run) -> None:
        run.wait_for_state("PAUSED", *TERMINAL)
        if run.prefect.state(run.run_id) in TERMINAL:  # lost at the start, perhaps, and then it is made again
            return
        if suspended:
            run.wait_for_rest()
        run.ask("POST", f"/flow_runs/{run.run_id}/resume", {"run_input": content})

    return act


# -- parts of prefect.yaml


def pulled(*steps: Mapping[str, Any]) -> Callable[[Workspace], Mapping[str, Any]]:
    return lambda workspace: {"pull": [workspace.fill(step) for step in steps]}


def unenforced(workspace: Workspace) -> Mapping[str, Any]:
    """Have the server take parameters that do not fit."""
    return {"enforce_parameter_schema": False}


def set_directory(directory: str) -> Mapping[str, Any]:
    return {"prefect.deployments.steps.set_working_directory": {"directory": directory}}


def shell(script: str, **more: Any) -> Mapping[str, Any]:
    return {"prefect.deployments.steps.run_shell_script": {"script": script, "stream_output": True, **more}}


def clone(repository: str, **more: Any) -> Mapping[str, Any]:
    return {"prefect.deployments.steps.git_clone": {"repository": repository, **more}}


_ENV = {"COMPARED": "of the job", "TEMPLATED": "{{ $HOME }}", "WORD": "{{ prefect.variables.compared_word }}"}
_SECRET = {"HUSH": "{{ prefect.blocks.secret.compared }}"}
_NAMES = ["COMPARED", "WORD", "PREPARED"]
_FUTURE = datetime(2020, 2, 3, 4, 5, tzinfo=timezone.utc).isoformat()
_GOOD = {"number": 3, "model": {"name": "m", "day": "2020-01-02"}, "when": _FUTURE, "colour": "blue"}

_ENDS = [
    of("ends.py:completing"),
    of("ends.py:completing_later"),
    of("ends.py:returning", "returning a named state", parameters={"what": "completed"}),
    of("ends.py:returning", "returning Failed", parameters={"what": "failed"}, ends="FAILED"),
    of("ends.py:returning", "returning Cancelled", parameters={"what": "cancelled"}, ends="CANCELLED"),
    of("ends.py:returning", "returning Crashed", parameters={"what": "crashed"}, ends="CRASHED"),
    of("ends.py:returning", "returning several states", parameters={"what": "mixed"}, ends="FAILED"),
    of("ends.py:returning", "returning a future", parameters={"what": "future"}),
    of("ends.py:returning", "returning a failed future", parameters={"what": "failed future"}, ends="FAILED"),
    of("ends.py:returning", "returning a task's state", parameters={"what": "task state"}),
    of("ends.py:returning", "returning nothing", parameters={"what": "nothing"}),
    of("ends.py:returning", "returning an exception", parameters={"what": "exception"}),
    of("ends.py:ignoring_a_failed_task"),
    of("ends.py:raising", ends="FAILED", parameters={"text": "ünïcode ☃"}),
    of("ends.py:raising_later", ends="FAILED"),
    of("ends.py:raising_in_a_task", ends="FAILED"),
    *(
        of("ends.py:raising_this", f"raising {what}", parameters={"what": what}, ends="FAILED")
        for what in ("group", "unpicklable", "caused", "recursion", "memory")
    ),
    *(
        of("ends.py:raising_this", f"raising {what}", parameters={"what": what}, ends="CRASHED")
        for what in ("interrupt", "base", "exit 0", "exit text", "cancelled")
    ),
    of("ends.py:raising_this", "raising exit 3", parameters={"what": "exit 3"}, ends="CRASHED"),
    *(
        of("ends.py:raising_this_later", f"raising {what} later", parameters={"what": what}, ends="CRASHED")
        for what in ("interrupt", "base", "exit 3", "cancelled")
    ),
    *(
        of("ends.py:raising_this_in_a_task", f"raising {what} in a task", parameters={"what": what}, ends="CRASHED")
        for what in ("interrupt", "base", "exit 3")
    ),
    *(crashing("ends.py:dying", f"dying by {how}", parameters={"how": how}) for how in ("exit 4", "abort", "kill")),
    crashing("ends.py:dying", "dying by segfault", parameters={"how": "segfault"}, core=True),
    of("ends.py:dying", "dying by term", parameters={"how": "term"}, ends="CRASHED"),
    crashing("ends.py:raising_this", "raising generator", parameters={"what": "generator"}),
    of("ends.py:overdue", ends="FAILED"),
    of("ends.py:overdue_later", ends="FAILED"),
    of("ends.py:with_an_overdue_task", ends="FAILED"),
    of("ends.py:retried"),
    of("ends.py:retried", "retried in vain", parameters={"successful_try": 9}, ends="FAILED"),
    of("ends.py:with_a_retried_task"),
    of("ends.py:hooked"),
    of("ends.py:hooked", "hooked and failing", parameters={"what": "a failure"}, ends="FAILED"),
    of("ends.py:hooked", "hooked and crashing", parameters={"what": "base"}, ends="CRASHED"),
    of("ends.py:yielding"),
    of("ends.py:yielding_later"),
]
_TASKS = [
    of("tasks.py:submitting", ordered=False),
    of("tasks.py:mapping", ordered=False),
    of("tasks.py:gathering", ordered=False),
    of("tasks.py:in_threads", ordered=False),
    of("tasks.py:in_processes", ordered=False),
    of("tasks.py:caching"),
    of("tasks.py:storing"),
    of("tasks.py:transacting", parameters={"broken": False}),
    of("tasks.py:transacting", "transacting in vain", parameters={"broken": True}),
    of(
        "tasks.py:variously",
        ordered=False,
        given={"tags": ["of the run"]},
        deployed=lambda workspace: {"tags": ["of it"]},
    ),
    of("tasks.py:limited"),
    of("tasks.py:consuming"),
    of("tasks.py:depending", ends="COMPLETED", ordered=False),
]
_SUBFLOWS = [
    of("subflows.py:outer"),
    of("subflows.py:gathering", "gathering subflows", ordered=False),
    of("subflows.py:outer_of_broken", parameters={"caught": False}, ends="FAILED"),
    of("subflows.py:outer_of_broken", "catching a broken subflow", parameters={"caught": True}),
    of("subflows.py:calling", parameters={"deployment": "inner/{agent} inner"}, ordered=False),
    of("subflows.py:inner"),
    of("subflows.py:outer_of_slow", ends="FAILED"),
]
_WAITING = [
    of("waiting.py:pausing", act=resume()),
    of("waiting.py:pausing_later", act=resume()),
    of("waiting.py:pausing_for_an_answer", act=resume({"word": "yes", "number": 4})),
    # Either the engine or the server is the first to see that the time is over.
    of("waiting.py:pausing_in_vain", ends="FAILED", differs=frozenset({"states", "message", "facts", "lines"})),
    core("waiting.py:suspending", act=resume(suspended=True)),
    of("waiting.py:suspending_for_an_answer", act=resume({"value": "yes"}, suspended=True)),
    of("waiting.py:messaging"),
]
_CODE = [
    of("package.flows.related", "a module's path"),
    of("package/flows.py:related", "a file in a package"),
    *(
        crashing(f"broken_{how}.py:main", f"broken by {how}", core=how == "absent")
        for how in ("syntax", "missing", "exiting", "absent", "importing", "nothing")
    ),
    core(
        "surroundings.py:looking",
        "pulled by steps",
        parameters={"names": _NAMES},
        deployed=pulled(
            shell("echo {home}/flows", id="found"),
            set_directory("{{ found.stdout }}"),
            {"steps.prepared": {"word": "of the step", "id": "made"}},
            shell("echo the word is {{ made.word }}"),
        ),
    ),
    of("surroundings.py:in_context", "cloned", deployed=pulled(clone("{repository}"))),
    of(
        "surroundings.py:in_context",
        "cloned of a branch",
        deployed=pulled(
            {"prefect.deployments.steps.git_clone": {"repository": "{repository}", "branch": "other", "id": "got"}},
            set_directory("{{ got.directory }}"),
        ),
    ),
    crashing(
        "surroundings.py:in_context",
        "cloned in vain",
        deployed=pulled(clone("{home}/no-repository")),
    ),
    crashing("surroundings.py:in_context", "failing to be pulled", deployed=pulled(shell("exit 3"))),
    crashing(
        "surroundings.py:in_context",
        "pulled by an unknown step",
        deployed=pulled({"nothing.here": {}}),
    ),
    crashing(
        "surroundings.py:in_context",
        "in no directory",
        deployed=pulled(set_directory("/not/there")),
    ),
]
_SURROUNDINGS = [
    of("surroundings.py:looking", parameters={"names": _NAMES}, job_variables={"env": _ENV}),
    of(
        "surroundings.py:looking",
        "looking with a secret",
        parameters={"names": ["COMPARED"]},
        job_variables={"env": {**_ENV, **_SECRET}},
    ),
    of(
        "surroundings.py:looking",
        "in a working directory",
        parameters={"names": []},
        job_variables={"working_dir": "{home}/working"},
    ),
    of(
        "surroundings.py:looking",
        "by a command",
        parameters={"names": []},
        job_variables={"command": "{python} -m prefect.engine"},
    ),
    of("surroundings.py:printing", "without stream_output", job_variables={"stream_output": False}),
    crashing(
        "ends.py:completing",
        "by a failing command",
        job_variables={"command": "sh -c 'exit 7'"},
    ),
    crashing(
        "ends.py:completing",
        "by a missing command",
        job_variables={"command": "/not/there"},
    ),
    core(
        "surroundings.py:in_context",
        given={"tags": ["one", "two"]},
        job_variables={
            "env": {
                "PREFECT_LOGGING_LEVEL": "WARNING",
                "PREFECT_FLOWS_DEFAULT_RETRIES": "1",
                "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "1",
            }
        },
    ),
    core(
        "surroundings.py:logging_variously",
        job_variables={"env": {"PREFECT_LOGGING_EXTRA_LOGGERS": "mine,another", "PREFECT_LOGGING_LEVEL": "DEBUG"}},
    ),
    of(
        "surroundings.py:logging_variously",
        "logging nothing to the server",
        job_variables={"env": {"PREFECT_LOGGING_TO_API_ENABLED": "false"}},
    ),
    of(
        "surroundings.py:logging_variously", "logging little", job_variables={"env": {"PREFECT_LOGGING_LEVEL": "ERROR"}}
    ),
    of("surroundings.py:printing"),
    of(
        "surroundings.py:printing",
        "printing with log_prints off",
        job_variables={"env": {"PREFECT_LOGGING_LOG_PRINTS": "0"}},
    ),
    of("surroundings.py:printing_much"),
    of("surroundings.py:with_blocks", parameters={"variable": "compared_{agent}"}),
    of("surroundings.py:with_a_client"),
    of("surroundings.py:keeping_things"),
    of("surroundings.py:checked", parameters=_GOOD),
    of(
        "surroundings.py:checked",
        "checked in vain",
        parameters={**_GOOD, "number": "no number"},
        ends="FAILED",
        deployed=unenforced,
    ),
    crashing(
        "surroundings.py:checked",
        "without parameters",
        deployed=unenforced,
    ),
    crashing(
        "surroundings.py:checked",
        "with unknown parameters",
        parameters={**_GOOD, "unknown": 1},
        deployed=unenforced,
    ),
    of(
        "surroundings.py:unchecked",
        parameters={"number": "no number"},
        deployed=unenforced,
    ),
    of("surroundings.py:renamed", parameters={"word": "w"}),
    of("surroundings.py:in_many_processes"),
    of("surroundings.py:with_threads"),
    of("surroundings.py:with_a_handler"),
    of("surroundings.py:with_a_loop_of_its_own"),
    of("surroundings.py:changing_its_surroundings"),
]

SCENARIOS: list[Scenario] = [*_ENDS, *_TASKS, *_SUBFLOWS, *_WAITING, *_CODE, *_SURROUNDINGS]
