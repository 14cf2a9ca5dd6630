"""spec.json: the runner refuses what it cannot use, the agent takes what is left, and both understand 0.1.0."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flowherd_runner.contract.fields import SpecError
from flowherd_runner.contract.files import MAX_SECONDS, SPEC_FILE, write_json
from flowherd_runner.contract.isolation import Isolation
from flowherd_runner.contract.spec import (
    AgentKeys,
    RunLimits,
    RunSpec,
    duration_s,
    is_positive_number,
    parse_spec,
    salvage_spec,
    spec_content,
    spec_of,
    spec_to_json,
)
from flowherd_runner.contract.weights import Weights

LEAST = {"flow_run_id": "id", "kind": "command", "target": {"argv": ["true"]}}
BAD = [
    {"kind": None},
    {"target": []},
    {"env": {"A": 1}},
    {"env": {"A=B": "x"}},
    {"env_removed": "A"},
    {"masked_env": "A"},
    {"secrets": {"A": 1}},
    {"env_files": "A"},
    {"mask": [1]},
    {"import_paths": [1]},
    {"limits": []},
    {"limits": {"open_files": "many"}},
    {"limits": {"run_time_s": -1}},
    {"limits": {"cpu_time_s": True}},
    {"grace_s": "soon"},
    {"kind_file": ["x"]},
    {"isolation": "sealed"},
    {"isolation": {"level": "guarded"}},
    {"weights": {"nice": "low"}},
]
WHOLE = RunSpec(
    flow_run_id="id",
    flow_run_name="name",
    flow_name="flow",
    kind="own",
    kind_file="/kinds/own.py",
    target={"a": [1]},
    parameters={"x": 1},
    env={"A": "b"},
    env_removed=("HOME",),
    masked_env=("A",),
    mask=("B*",),
    unmask=("C",),
    secrets={"D": "file:/d"},
    env_files=("/e",),
    engine_parameters={"y": 2},
    working_dir="/work",
    import_paths=("/p",),
    runtime="/python",
    user="somebody",
    user_env=("PATH", "LC_*"),
    own_dir="/srv/work/a-run",
    limits=RunLimits(run_time_s=1.5, open_files=2, cpu_time_s=3, memory_bytes=4, processes=5),
    grace_s=0.5,
    max_line_bytes=100,
    max_journal_bytes=20000,
    log_level=10,
    cgroup="/sys/fs/cgroup/x",
    isolation=Isolation("sealed", "none", "weaker", ("/w",), ("/h",), ("/c",), ("/k",), "private", ("/o",)),
    weights=Weights(1.5, 5, "idle", 300),
    agent=AgentKeys(
        "claim", "attempt", "task", "/python", ("json",), True, False, False, False, ("odd",), True, 7, ("db",)
    ),
)
PARTS: tuple[tuple[Any, Any], ...] = ((WHOLE.isolation, Isolation()), (WHOLE.weights, Weights()))
WRITTEN = json.loads(json.dumps(spec_to_json(WHOLE)))
#: As an agent of 0.1.0 wrote the keys that only agents read.
OF_0_1_0 = {
    **LEAST,
    "claim": "agent/id",
    "attempt": "1",
    "taken_through": "task",
    "interpreter": "/python",
    "preload": ["flowherd_runner.prefect.warm", "flowherd_runner.prefect3.warm", "json"],
    "send_logs": False,
    "show_output": False,
}


@pytest.mark.parametrize("read", [parse_spec, salvage_spec])
def test_what_is_not_given_has_a_default(read: Any) -> None:
    assert read(LEAST) == RunSpec("id", kind="command", target={"argv": ["true"]})


@pytest.mark.parametrize("read", [parse_spec, salvage_spec])
def test_what_is_written_is_read_again(read: Any) -> None:
    assert read(WRITTEN) == WHOLE


def test_no_field_of_the_value_is_left_at_its_default_in_the_test_above() -> None:
    for whole, least in ((WHOLE, RunSpec("")), (WHOLE.limits, RunLimits()), (WHOLE.agent, AgentKeys()), *PARTS):
        assert [name for name in whole._fields if getattr(whole, name) == getattr(least, name)] == []


def test_a_number_beyond_every_float_is_a_limit_and_no_duration() -> None:
    assert is_positive_number(10**400) and not is_positive_number(float("inf"))
    assert duration_s(10**400, 7.0) == duration_s(float("nan"), 7.0) == duration_s(True, 7.0) == 7.0


def test_whole_numbers_serve_as_seconds_and_the_longest_duration_is_ten_years() -> None:
    spec = parse_spec({**LEAST, "limits": {"run_time_s": 3, "memory_bytes": 1}, "grace_s": 10**30, "unknown": 1})
    assert (spec.limits.run_time_s, spec.grace_s) == (3.0, MAX_SECONDS)


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_a_wrong_value_is_refused_by_name(bad: dict[str, Any]) -> None:
    key, value = next(iter(bad.items()))
    nested = isinstance(value, dict) and key in ("limits", "isolation", "weights")
    name = list(value)[-1] if nested else key
    with pytest.raises(SpecError, match=name):
        parse_spec({**LEAST, **bad})


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_an_agent_takes_the_default_in_place_of_a_wrong_value_and_all_the_rest(bad: dict[str, Any]) -> None:
    key, default = next(iter(bad)), RunSpec("")
    spec = salvage_spec({**WRITTEN, **bad})
    assert getattr(spec, key) == getattr(default, key)
    assert spec == WHOLE._replace(**{key: getattr(default, key)})


@pytest.mark.parametrize("key", ["claim", "preload", "has_engine", "send_logs"])
def test_what_only_the_agent_reads_is_never_refused(key: str) -> None:
    wrong = {"agent": {**WRITTEN["agent"], key: 7}, "limits": {"memory_bytes": "much", "processes": -1}}
    for read in (parse_spec, salvage_spec):
        spec = read({**LEAST, **wrong})
        assert spec.agent == WHOLE.agent._replace(**{key: getattr(AgentKeys(), key)})
        assert spec.limits == RunLimits()


def test_texts_that_an_agent_shows_and_sends_can_be_encoded() -> None:
    spec = salvage_spec({**LEAST, "flow_name": "\ud800", "agent": {"claim": "\udfff"}})
    assert (spec.flow_name, spec.agent.claim) == ("\\ud800", "\\udfff")


class TestOlderShape:
    def test_the_agents_own_keys_stood_at_the_top(self) -> None:
        keys = salvage_spec(OF_0_1_0).agent
        assert (keys.claim, keys.attempt, keys.claimed_via_task_run) == ("agent/id", "1", "task")
        assert (keys.interpreter, keys.send_logs, keys.show_output) == ("/python", False, False)

    def test_modules_to_preload_have_moved(self) -> None:
        preload = salvage_spec(OF_0_1_0).agent.preload
        assert preload == ("flowherd_runner.kinds.prefect1.warm", "flowherd_runner.kinds.prefect3.warm", "json")

    @pytest.mark.parametrize(
        ("of_kind", "has_engine", "reports_start"),
        [
            ({"kind": "command"}, False, True),
            ({"kind": "prefect"}, True, False),
            ({"kind": "prefect3", "has_engine": True, "tells_start": True}, True, True),
            ({"kind": "command", "has_engine": True, "tells_start": True}, True, True),
        ],
        ids=str,
    )
    def test_who_reports_follows_from_kind_and_flags(
        self, of_kind: dict[str, Any], has_engine: bool, reports_start: bool
    ) -> None:
        keys = salvage_spec({**OF_0_1_0, **of_kind}).agent
        assert (keys.has_engine, keys.reports_start) == (has_engine, reports_start)

    def test_a_runner_reads_it_too(self) -> None:
        assert parse_spec(OF_0_1_0)._replace(agent=AgentKeys()) == parse_spec(LEAST)


def test_a_missing_or_damaged_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"no spec\.json"):
        spec_of(spec_content(str(tmp_path)))
    (tmp_path / SPEC_FILE).write_text("{")
    with pytest.raises(SpecError):
        spec_of(spec_content(str(tmp_path)))


def test_a_file_of_a_newer_contract_is_refused(tmp_path: Path) -> None:
    write_json(str(tmp_path), SPEC_FILE, LEAST, sync=False)
    path = tmp_path / SPEC_FILE
    path.write_text(path.read_text().replace('"contract": 1', '"contract": 99'))
    with pytest.raises(SpecError, match="99"):
        spec_of(spec_content(str(tmp_path)))
