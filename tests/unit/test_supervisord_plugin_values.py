"""What flowherd's plugins make of an agent's answers, for supervisord's XML-RPC and for a terminal."""

from __future__ import annotations

import xmlrpc.client
from typing import Any

import pytest
from supervisor.xmlrpc import Faults, xmlrpc_marshal  # type: ignore[import-untyped]

import flowherd_supervisord
from flowherd_supervisord import agent_socket, shown
from flowherd_supervisord.rpc_methods import FlowherdInterface
from flowherd_supervisord.rpc_values import fault, sendable


@pytest.mark.parametrize(
    ("value", "arrives"),
    [
        ({"a": None, "b": [None, 1, True]}, {"b": ["", 1, True]}),
        (2**40, float(2**40)),
        ("größer 🌿 <&>", "größer 🌿 <&>"),
        ("a\x1b[31m\x00b\u0085c\rd\te\n", "a\ufffd[31m\ufffdb\ufffdc\ufffdd\te\n"),
        ({"größe": {"x": ["ü"]}}, {"gr??e": {"x": ["ü"]}}),
    ],
)
def test_a_value_survives_supervisords_answer_of_one_byte_a_character(value: Any, arrives: Any) -> None:
    body = xmlrpc_marshal(sendable(value))
    assert body.isascii()
    ((found,), _) = xmlrpc.client.loads(body)
    assert found == arrives


def test_a_fault_says_by_its_code_what_is_wrong() -> None:
    codes = {
        Faults.NOT_RUNNING: agent_socket.no_agent("/s", FileNotFoundError(2, "No such file")),
        Faults.BAD_NAME: agent_socket.AgentError("there is no flow 'ü'", 404),
        Faults.BAD_ARGUMENTS: agent_socket.AgentError("name a run", 400),
        Faults.FAILED: agent_socket.AgentError("the server does not answer", 502),
    }
    for code, error in codes.items():
        made: Any = fault(error)
        body = xmlrpc_marshal(xmlrpc.client.Fault(made.code, made.text))
        with pytest.raises(xmlrpc.client.Fault) as caught:
            xmlrpc.client.loads(body)
        assert (caught.value.faultCode, caught.value.faultString) == (code, str(error))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "no flowherd agent"),
        (b"SSH-2.0\r\n", "no flowherd agent"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "no flowherd agent"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", "no flowherd agent"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nNot Found", "upgrade flowherd"),
        (b"HTTP/1.1 409 Conflict\r\nContent-Length: 14\r\n\r\n" + b'{"error": "x"}', "^x$"),
    ],
)
def test_what_is_no_answer_of_an_agent_is_an_error(data: bytes, text: str) -> None:
    with pytest.raises(agent_socket.AgentError, match=text):
        agent_socket.read_answer(data)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "has no socket=/PATH"),
        ({"socket": "control.sock"}, "has no socket=/PATH"),
        ({"socket": "/s", "timout": "3"}, "has the key timout"),
        ({"socket": "/s", "timeout": "soon"}, "has timeout=soon"),
        ({"socket": "/s", "timeout": "-1"}, "has timeout=-1"),
        ({"socket": "/s", "timeout": "nan"}, "has timeout=nan"),
    ],
)
def test_a_factory_raises_nothing_and_its_methods_say_what_is_wrong(options: dict[str, str], text: str) -> None:
    made = flowherd_supervisord.rpc_interface(None, **options)
    assert isinstance(made, FlowherdInterface)
    with pytest.raises(Exception) as caught:
        made.health()
    assert text in caught.value.text  # type: ignore[attr-defined]


def test_a_plugin_that_cannot_be_made_is_replaced_by_one_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "flowherd_supervisord.rpc_methods", None)
    made: Any = flowherd_supervisord.rpc_interface(None, socket="/s")
    with pytest.raises(Exception, match="cannot be loaded: ModuleNotFoundError"):
        made.health()
    said: list[str] = []

    class Controller:
        exitstatus = 0
        output = staticmethod(said.append)

    plugin: Any = flowherd_supervisord.control_plugin(Controller)  # which lacks what the real one needs
    plugin.do_flowherd("health")
    plugin.do_help("flowherd")
    plugin.do_help("")
    assert all("cannot be loaded: AttributeError" in text for text in said) and len(said) == 2
    assert Controller.exitstatus == 1


def test_the_state_of_an_agent_is_one_line() -> None:
    facts = {"runs": 3, "limit": 8, "status": "ok", "reason": ""}
    assert shown.summary(facts) == "3 runs, limit 8"
    assert shown.summary({**facts, "status": "paused", "reason": "paused: claims nothing"}) == "3 runs, limit 8, paused"
    draining = {"runs": 1, "status": "draining", "reason": "the agent is draining"}
    assert shown.summary(draining) == "1 run, draining, the agent is draining"
    unwell = {"runs": 0, "limit": None, "status": "unwell", "reason": "the backend has not answered for 60 s"}
    assert shown.summary(unwell) == "0 runs, unwell: the backend has not answered for 60 s"


def test_runs_are_listed_as_supervisorctl_lists_programs() -> None:
    run = {"id": "0123456789", "name": "nightly", "flow": "etl", "state": "Running", "pid": 7}
    going = {**run, "started_at": "2026-11-26T10:00:00+00:00", "memory_bytes": 3 * 1024 * 1024}
    ended = {"id": "9876543210", "name": "x", "flow": "etl", "state": "Failed", "message": "exited with code 1"}
    now_s = 1795687200.0 + 86400 + 61
    assert shown.run_lines([going, ended], now_s) == [
        "nightly   Running   etl, 01234567, pid 7, for 1 day, 0:01:01, 3.0 MiB",
        "x         Failed    etl, 98765432, exited with code 1",
    ]
    assert shown.run_lines([]) == []


def test_a_followed_log_continues_after_the_last_line_that_was_shown() -> None:
    lines = [{"at": f"2026-11-26T10:00:0{n}+00:00", "message": str(n)} for n in range(4)]
    same = {"at": "2026-11-26T11:00:01+01:00", "message": "1"}
    assert shown.lines_after(lines, [same]) == lines[2:]
    assert shown.lines_after(lines, []) == lines
