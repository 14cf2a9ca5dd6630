"""Decisions that depend on plain values only: pauses, limits, health, verdicts and plans."""

from __future__ import annotations

import itertools
import json
import sys
import uuid
from dataclasses import replace
from typing import Any

import pytest

from flowherd.agent.backoff import PollPace, retry_pause_s
from flowherd.agent.health import Facts, assess
from flowherd.engines.base import AgentDefaults
from flowherd.engines.plan import plan, runtime_of
from flowherd.errors import UnsupportedStorage
from flowherd.host import verdict
from flowherd.host.limits import Usage, breach
from flowherd.host.store.disk_status import DiskStatus, disk_status
from flowherd.states import RunState
from flowherd.values import Flow, FlowRun, Runtime
from flowherd_runner.contract import reasons
from flowherd_runner.contract.spec import RunLimits, salvage_spec, spec_to_json
from flowherd_runner.run_secrets import prepare, secrets_of


class TestPolling:
    def test_pauses_grow_while_no_run_is_found_and_shrink_when_one_is(self) -> None:
        pace = PollPace()
        assert [pace.after_poll(False) for _ in range(8)] == [0.5, 1, 2, 4, 8, 10, 10, 10]
        assert pace.after_poll(True) == 0.25

    def test_a_poke_resets_the_pause(self) -> None:
        pace = PollPace()
        for _ in range(5):
            pace.after_poll(False)
        pace.reset()
        assert pace.after_poll(False) == 0.5

    def test_retries_back_off_with_jitter_up_to_a_cap(self) -> None:
        pauses = [retry_pause_s(n, 0.0) for n in range(1, 20)]
        assert pauses == sorted(pauses) and pauses[-1] == 15.0
        assert retry_pause_s(1, 0.0) <= retry_pause_s(1, 0.99) < 2 * retry_pause_s(1, 0.0)


class TestAdoption:
    @pytest.mark.parametrize(("exit_recorded", "started"), list(itertools.product([True, False], repeat=2)))
    def test_a_held_lock_means_alive_regardless_of_the_files(self, exit_recorded: bool, started: bool) -> None:
        assert disk_status(lock_held=True, exit_recorded=exit_recorded, started=started) is DiskStatus.ALIVE

    def test_without_the_lock_the_records_decide(self) -> None:
        assert disk_status(lock_held=False, exit_recorded=True, started=True) is DiskStatus.ENDED
        assert disk_status(lock_held=False, exit_recorded=False, started=True) is DiskStatus.LOST
        assert disk_status(lock_held=False, exit_recorded=False, started=False) is DiskStatus.NEVER_RAN


class TestLimits:
    def test_a_breach_names_the_usage_and_the_limit(self) -> None:
        found = breach(Usage(memory_bytes=300 * 2**20, processes=2), RunLimits(memory_bytes=200 * 2**20))
        assert found is not None and found.reason == reasons.REASON_MEMORY
        assert "300.0 MiB" in found.detail and "200.0 MiB" in found.detail

    def test_too_many_processes_are_a_breach(self) -> None:
        found = breach(Usage(processes=11), RunLimits(processes=10))
        assert found is not None and found.reason == reasons.REASON_PROCESSES

    def test_usage_at_the_limit_or_without_a_limit_is_no_breach(self) -> None:
        assert breach(Usage(memory_bytes=5, processes=10), RunLimits(memory_bytes=5, processes=10)) is None
        assert breach(Usage(memory_bytes=2**50, processes=9999), RunLimits()) is None


class TestHealth:
    facts = Facts(started_s=0, last_beat_s=100, last_contact_s=100, longest_pause_s=10, request_timeout_s=15)

    def test_an_agent_is_well_while_the_backend_answers_and_the_loop_runs(self) -> None:
        assert assess(self.facts, 110).well

    def test_an_agent_is_unwell_after_several_polls_without_an_answer(self) -> None:
        state = assess(replace(self.facts, last_beat_s=199), 200)
        assert not state.well and "backend" in state.reason

    def test_an_agent_is_unwell_when_its_loop_is_stuck(self) -> None:
        state = assess(replace(self.facts, last_contact_s=199), 200)
        assert not state.well and "stuck" in state.reason

    def test_a_new_agent_is_given_time_to_reach_its_backend(self) -> None:
        new = replace(self.facts, started_s=100, last_contact_s=None)
        assert assess(new, 110).well
        assert not assess(replace(new, last_beat_s=199), 200).well


def record(**facts: Any) -> dict[str, Any]:
    return {"reason": reasons.REASON_EXITED, "grade": reasons.GRADE_PROVEN, "evidence": "wait status", **facts}


class TestVerdict:
    def test_only_exit_code_zero_is_success(self) -> None:
        assert verdict.of_exit_record(record(exit_code=0)).state is RunState.SUCCESS
        failed = verdict.of_exit_record(record(exit_code=3))
        assert failed.state is RunState.FAILED and "code 3" in failed.message

    def test_every_cause_has_its_own_message(self) -> None:
        causes = [
            record(exit_code=3),
            record(reason=reasons.REASON_EXCEPTION, exception={"type": "ValueError", "message": "bad"}),
            record(reason=reasons.REASON_SIGNAL, signal=9),
            record(reason=reasons.REASON_SIGNAL, signal=11),
            record(reason=reasons.REASON_SIGNAL, signal=24),
            record(reason=reasons.REASON_SIGNAL, signal=250),
            record(reason=reasons.REASON_TIMEOUT, detail="Run time limit exceeded: 5 s."),
            record(reason=reasons.REASON_MEMORY, detail="Memory limit exceeded."),
            record(reason=reasons.REASON_NOT_STARTED, evidence="no such program: foo"),
            record(reason=reasons.REASON_TERMINATED, evidence="SIGTERM to the runner"),
        ]
        found = [verdict.of_exit_record(cause) for cause in causes]
        assert {item.state for item in found} == {RunState.FAILED}
        assert len({item.message for item in found}) == len(causes)
        assert found[1].message == "ValueError: bad"
        assert "SIGKILL" in found[2].message
        assert "segmentation fault" in found[3].message

    def test_a_cancelled_run_is_cancelled(self) -> None:
        assert verdict.of_exit_record(record(reason=reasons.REASON_CANCELLED)).state is RunState.CANCELLED

    def test_a_record_that_violates_the_contract_is_refused(self) -> None:
        for damaged in ({}, {"reason": 5}, {"reason": "exited", "grade": "sure"}):
            with pytest.raises(ValueError, match="exit record"):
                verdict.of_exit_record(damaged)

    def test_a_lost_runner_is_distinguished_from_a_reboot(self) -> None:
        assert verdict.of_lost_runner("a", "a", 2).reason == reasons.REASON_LOST
        assert verdict.of_lost_runner("a", "b", 0).reason == reasons.REASON_REBOOT


def flow_run(storage: dict[str, Any], config: dict[str, Any] | None = None, **facts: Any) -> FlowRun:
    return FlowRun(
        id=str(uuid.uuid4()),
        name="test",
        version=1,
        state=RunState.SCHEDULED,
        serialized_state={},
        flow=Flow(id=str(uuid.uuid4()), name="flow", storage=storage, run_config=config),
        **facts,
    )


COMMAND = {"type": "Command", "argv": ["true"]}
PYTHON = {"type": "Python", "ref": "module:function"}


class TestPlan:
    def test_the_flows_own_settings_win_over_the_agents(self) -> None:
        config = {"type": "LocalRun", "env": {"A": "flow"}, "limits": {"processes": 3}, "grace_s": 1}
        defaults = AgentDefaults(env_vars={"A": "agent", "B": "agent"}, limits=RunLimits(processes=9, memory_bytes=7))
        spec = plan(flow_run(COMMAND, config), defaults, "token")
        assert spec.env == {"A": "flow", "B": "agent"}
        assert spec.limits == RunLimits(processes=3, memory_bytes=7)
        assert spec.grace_s == 1.0

    def test_the_runs_own_config_wins_over_its_flows(self) -> None:
        run = flow_run(COMMAND, {"working_dir": "/flow"}, run_config={"working_dir": "/run"})
        assert plan(run, AgentDefaults(), "token").working_dir == "/run"

    def test_a_flow_gets_the_agents_interpreter_and_preloads_unless_it_names_its_own(self) -> None:
        defaults = AgentDefaults(preload=["json"])
        assert runtime_of(plan(flow_run(PYTHON), defaults, "t")) == Runtime(sys.executable, ("json",))
        foreign = plan(flow_run(PYTHON, {"interpreter": "/opt/python"}), defaults, "t")
        assert runtime_of(foreign) == Runtime("/opt/python")

    def test_a_command_is_started_without_modules(self) -> None:
        planned = plan(flow_run(COMMAND, {"preload": ["json"]}), AgentDefaults(preload=["csv"]), "t")
        assert runtime_of(planned) == Runtime(sys.executable)

    def test_variables_named_like_secrets_are_to_be_masked(self) -> None:
        config = {"env": {"DB_PASSWORD": "correct-horse", "API_KEY": "battery-staple", "COLOUR": "ultramarine"}}
        spec = plan(flow_run(COMMAND, config, parameters={"token": "a-parameter"}), AgentDefaults(), "t")
        masked = secrets_of(prepare(spec))
        assert {"API_KEY", "DB_PASSWORD", "token"} <= set(masked.names)
        assert {"correct-horse", "battery-staple", "a-parameter"} <= set(masked.values)
        assert "ultramarine" not in masked.values

    def test_the_settings_and_the_flow_say_what_is_masked_and_where_secrets_are_read(self) -> None:
        defaults = AgentDefaults(
            mask=["A*"], unmask=["B"], secrets={"S": "env:S", "T": "env:T"}, env_files=["/agent.env"]
        )
        config = {"secrets": {"T": "file:/t"}, "env_files": ["/flow.env"], "secret_env": ["DSN"]}
        spec = plan(flow_run(COMMAND, config), defaults, "t")
        assert (spec.mask, spec.unmask, spec.masked_env) == (("A*",), ("B",), ("DSN",))
        assert spec.secrets == {"S": "env:S", "T": "file:/t"}
        assert spec.env_files == ("/agent.env", "/flow.env")

    @pytest.mark.parametrize(
        "storage",
        [{}, {"type": "Docker"}, {"type": "Command"}, {"type": "Command", "argv": []}, {"type": "Python", "ref": "x"}],
    )
    def test_unsupported_storage_is_a_value_error(self, storage: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=r"storage|Storage"):
            plan(flow_run(storage), AgentDefaults(), "token")

    def test_a_whole_file_and_a_level_of_logging_can_be_asked_for(self) -> None:
        storage = {"type": "Python", "ref": "/srv/digest.py"}
        spec = plan(flow_run(storage, {"log_level": "DEBUG"}), AgentDefaults(), "token")
        assert (spec.target, spec.log_level) == ({"ref": "/srv/digest.py"}, 10)
        assert plan(flow_run(storage), AgentDefaults(), "token").log_level is None
        with pytest.raises(UnsupportedStorage, match="log_level"):
            plan(flow_run(storage, {"log_level": "LOUD"}), AgentDefaults(), "token")

    def test_an_unsupported_run_config_is_refused(self) -> None:
        with pytest.raises(UnsupportedStorage, match="DockerRun"):
            plan(flow_run(COMMAND, {"type": "DockerRun"}), AgentDefaults(), "token")

    def test_a_spec_can_be_read_back_from_its_json(self) -> None:
        made = plan(flow_run(PYTHON, {"preload": ["json"], "limits": {"processes": 3}}), AgentDefaults(), "token")
        assert salvage_spec(json.loads(json.dumps(spec_to_json(made)))) == made
        assert runtime_of(made) == Runtime(sys.executable, ("json",))
