"""What the exit record says about how a run ended."""

from __future__ import annotations

import signal
from typing import Any

from flowherd_runner.contract.oom import OomCount
from flowherd_runner.exit_record import End, Stop, describe_end

CORE = 0x80


def end(wait_status: int, **facts: Any) -> dict[str, Any]:
    defaults = {"cpu_time_s": 0.0, "stop": None, "not_started": None, "exception": None, "cpu_limit_s": None}
    return describe_end(End(wait_status, **{**defaults, **facts}))


def test_an_exit_code_is_proven_by_the_wait_status() -> None:
    found = end(3 << 8)
    assert (found["reason"], found["grade"], found["exit_code"], found["signal"]) == ("exited", "proven", 3, None)
    assert found["evidence"] == "wait status: exited with code 3"


def test_a_signal_is_named_as_one_that_flowherd_did_not_send() -> None:
    found = end(signal.SIGKILL)
    assert (found["reason"], found["exit_code"], found["signal"]) == ("signal", None, 9)
    assert found["evidence"] == "wait status: killed by SIGKILL (9); flowherd did not send it"


def test_a_core_dump_is_mentioned() -> None:
    assert "SIGSEGV (11), core dumped" in end(signal.SIGSEGV | CORE)["evidence"]


def test_the_cpu_limit_is_named_when_the_time_was_used_up() -> None:
    assert "its limit is 2 s" in end(signal.SIGXCPU, cpu_time_s=2.0, cpu_limit_s=2)["evidence"]
    assert "limit" not in end(signal.SIGKILL, cpu_time_s=0.1, cpu_limit_s=2)["evidence"]


def test_an_exception_is_the_reason_unless_a_signal_ended_the_process() -> None:
    exception = {"type": "ValueError", "message": "no"}
    assert end(1 << 8, exception=exception)["reason"] == "exception"
    assert end(1 << 8, exception=exception)["evidence"] == "ValueError: no"
    assert end(signal.SIGKILL, exception=exception)["reason"] == "signal"


def test_a_stop_is_the_reason_and_the_exit_code_stays_visible() -> None:
    stop = Stop("cancelled", "the agent asked", "by anna", 5.0)
    found = end(0, stop=stop)
    assert (found["reason"], found["exit_code"], found["detail"]) == ("cancelled", 0, "by anna")
    assert found["evidence"] == "the agent asked; wait status: exited with code 0"


def test_code_that_was_not_reached_is_recorded_with_the_reason() -> None:
    found = end(72 << 8, not_started="no such program: foo")
    assert (found["reason"], found["evidence"]) == ("not_started", "no such program: foo")


def counts(before: int, after: int, own: bool) -> dict[str, Any]:
    return {"oom_before": OomCount(before, "there", own), "oom_after": OomCount(after, "there", own)}


def test_a_kill_while_the_out_of_memory_killer_struck_is_its_own_in_an_own_cgroup_and_probably_else() -> None:
    for own, grade in ((True, "proven"), (False, "probable")):
        found = end(signal.SIGKILL, **counts(3, 4, own))
        assert (found["reason"], found["grade"]) == ("oom_killer", grade)
        assert "rose from 3 to 4" in found["evidence"]


def test_without_a_rise_or_with_another_cause_it_is_not_the_out_of_memory_killer() -> None:
    assert end(signal.SIGKILL, **counts(3, 3, False))["reason"] == "signal"
    assert end(signal.SIGSEGV, **counts(3, 4, False))["reason"] == "signal"
    assert end(signal.SIGKILL, cpu_time_s=9.0, cpu_limit_s=2, **counts(3, 4, False))["reason"] == "signal"
    stop = Stop("cancelled", "asked", None, 1.0)
    assert end(signal.SIGKILL, stop=stop, **counts(3, 4, False))["reason"] == "cancelled"
