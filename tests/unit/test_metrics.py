"""Metrics: the list of families, what is counted of a run, and the text that is sent."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from flowherd.agent.measures import Measures, RunOfHost, due_time
from flowherd.metrics.ended_runs import EndedRun, begin_flow, count_end
from flowherd.metrics.exposition import exposition
from flowherd.metrics.families import FAMILIES, Family, Kind, Part, series_names
from flowherd.metrics.tally import MOST_FLOWS, OTHER_FLOWS, Sample, Tally
from flowherd.states import RunState
from flowherd.values import Flow, FlowRun, StateReport

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "metrics.md"
AT = datetime(2026, 11, 27, 3, 0, tzinfo=timezone.utc)
ENDS = "flowherd_runs_ended_total"


def values(tally: Tally, family: str) -> dict[tuple[str, ...], float]:
    return {sample.labels: sample.value for sample in tally.samples() if sample.family == family}


def ended(result: RunState = RunState.SUCCESS, cause: str | None = "exited", **more: Any) -> EndedRun:
    at = AT.timestamp()
    given = {"flow": "etl", **more}
    return EndedRun(result=result, cause=cause, started=at, ended=at + 3, known=at + 4, **given)


def flow_run(**more: Any) -> FlowRun:
    at = (AT - timedelta(seconds=5)).isoformat()
    flow = Flow(id="f", name="etl")
    given: dict[str, Any] = {"scheduled_start_time": at, "serialized_state": {}, **more}
    return FlowRun(id="r", name="mild-marten", version=1, state=RunState.SCHEDULED, flow=flow, **given)


@pytest.mark.parametrize("one", FAMILIES, ids=lambda family: family.name)
def test_a_family_follows_the_conventions_of_prometheus(one: Family) -> None:
    assert re.fullmatch(r"flowherd(_[a-z0-9]+)+", one.name)
    assert one.name.endswith("_total") is (one.kind is Kind.COUNTER)
    assert one.help.endswith(".")
    assert bool(one.buckets) is (one.kind is Kind.HISTOGRAM)
    assert list(one.buckets) == sorted(set(one.buckets))
    assert ("flow_run_id" in one.labels) is one.per_run


def test_the_reference_names_each_family_with_its_labels() -> None:
    text = " ".join(REFERENCE.read_text(encoding="utf-8").split())
    written = [one.name + ("" if one.per_run or not one.labels else f"{{{', '.join(one.labels)}}}") for one in FAMILIES]
    assert [name for name in written if f"`{name}`" not in text] == []


def test_no_two_families_have_a_series_in_common() -> None:
    names = [name for family in FAMILIES for name in series_names(family)]
    assert len(names) == len(set(names))


def test_an_end_is_counted_by_flow_result_and_cause() -> None:
    tally = Tally()
    count_end(tally, ended())
    count_end(tally, ended(RunState.FAILED, "memory_limit"))
    count_end(tally, ended(RunState.FAILED, "memory_limit"))
    assert values(tally, ENDS)["etl", "Success", "exited"] == 1
    assert values(tally, ENDS)["etl", "Failed", "memory_limit"] == 2
    assert values(tally, "flowherd_flow_failing") == {("etl",): 1.0}
    count_end(tally, ended())
    assert values(tally, "flowherd_flow_failing") == {("etl",): 0.0}


def test_the_series_of_usual_ends_begin_at_zero_so_that_the_first_failure_is_an_increase() -> None:
    tally = Tally()
    begin_flow(tally, "etl")
    assert values(tally, ENDS)["etl", "Failed", "exited"] == 0
    count_end(tally, ended(RunState.FAILED))
    begin_flow(tally, "etl")
    assert values(tally, ENDS)["etl", "Failed", "exited"] == 1


def test_a_cause_from_outside_makes_no_series_of_its_own() -> None:
    tally = Tally()
    for cause in ("made up", "x" * 1000, None):
        count_end(tally, ended(RunState.FAILED, cause))
    found = {labels[2] for labels, value in values(tally, ENDS).items() if value}
    assert found == {"other", "unknown"}


def test_a_run_that_a_person_cancelled_makes_no_flow_failing() -> None:
    tally = Tally()
    count_end(tally, ended(RunState.CANCELLED, "cancelled"))
    assert values(tally, "flowherd_flow_failing") == {("etl",): 0.0}


def test_the_number_of_flows_with_series_of_their_own_is_bounded() -> None:
    tally = Tally()
    assert [tally.flow(f"flow {n}") for n in range(MOST_FLOWS)] == [f"flow {n}" for n in range(MOST_FLOWS)]
    assert tally.flow("one more") == OTHER_FLOWS
    assert tally.flow("flow 7") == "flow 7"


def test_phases_are_measured_from_the_times_that_the_runner_wrote_down() -> None:
    measures = Measures()
    measures.claimed(flow_run())
    claimed = measures._claimed["r"].claimed
    phases = (("code", claimed + 0.02), ("first_line", claimed + 0.5))
    end = StateReport(
        flow_run_id="r",
        state=RunState.SUCCESS,
        message="",
        at=datetime.fromtimestamp(claimed + 60.02, timezone.utc),
        reason="exited",
        phases=phases,
        figures=(("cpu_time_s", 1.5), ("lines", 12)),
    )
    measures.reported(RunOfHost("r", "mild-marten", "etl", "a1", None), end, RunState.SUCCESS)
    tally = measures.tally
    totals = {name: tally.distributions(f"flowherd_{name}_seconds")[()].total for name in ("fork", "first_line", "run")}
    assert totals == {"fork": pytest.approx(0.02), "first_line": pytest.approx(0.48), "run": pytest.approx(60.0)}
    assert values(tally, "flowherd_lines_in_total") == {(): 12.0}
    assert values(tally, "flowherd_flow_cpu_seconds_total") == {("etl",): 1.5}


def test_a_run_that_its_engine_left_waiting_for_its_next_start_has_not_ended() -> None:
    measures = Measures()
    end = StateReport(flow_run_id="r", state=RunState.SUCCESS, message="", at=AT, reason="exited", of_process=True)
    measures.reported(RunOfHost("r", "mild-marten", "etl", "a1", AT), end, RunState.RETRYING)
    assert not any(values(measures.tally, ENDS).values())
    measures.reported(RunOfHost("r", "mild-marten", "etl", "a2", AT), end, RunState.SUCCESS)
    assert sum(values(measures.tally, ENDS).values()) == 1


def test_two_clocks_that_disagree_make_no_negative_duration() -> None:
    tally = Tally()
    tally.observe("flowherd_waiting_seconds", -3.0)
    assert tally.distributions("flowherd_waiting_seconds")[()].total == 0.0


@pytest.mark.parametrize(
    ("given", "due"),
    [
        ({"scheduled_start_time": None}, None),
        ({"scheduled_start_time": "nonsense"}, None),
        ({}, AT.timestamp() - 5),
        ({"serialized_state": {"start_time": AT.isoformat()}}, AT.timestamp()),
    ],
)
def test_a_run_is_due_when_its_state_says_if_that_is_later(given: dict[str, Any], due: float | None) -> None:
    assert due_time(flow_run(**given)) == due


def test_the_text_has_each_family_that_the_program_has_and_no_other() -> None:
    tally = Tally()
    count_end(tally, ended())
    gauges = [Sample("flowherd_up", 1.0), Sample("flowherd_runs", 2.0, ("Running",))]
    text = exposition(Part.SERVER, tally, gauges)[0].decode()
    assert 'flowherd_runs{state="Running"} 2.0' in text
    assert 'flowherd_run_seconds_bucket{le="5.0"} 1.0' in text
    assert "flowherd_waiting_seconds_count 0.0" in text
    assert "process_cpu_seconds_total" in text
    assert "flowherd_claim_seconds" not in text, "only an agent claims"


@pytest.mark.parametrize("name", ['a\n"b\\', "\ud800 half a character", "a\0b", "\u202eabc", "x" * 5000, ""])
def test_a_flow_of_any_name_makes_a_text_that_can_be_read(name: str) -> None:
    tally = Tally()
    count_end(tally, ended(flow=name))
    text = exposition(Part.SERVER, tally, [])[0].decode()
    found = [one for metric in text_string_to_metric_families(text) for one in metric.samples if one.name == ENDS]
    assert {one.labels["flow"] for one in found} == {tally.flow(name)}


def test_prometheus_is_answered_in_openmetrics_if_it_asks_for_it() -> None:
    wanted = "application/openmetrics-text; version=1.0.0"
    text, media_type = exposition(Part.AGENT, Tally(), [], wanted)
    assert text.endswith(b"# EOF\n")
    assert media_type.startswith("application/openmetrics-text")
