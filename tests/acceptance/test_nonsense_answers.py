"""Commands that ask a server or an agent and get nonsense end with one sentence, and never with a traceback."""

from __future__ import annotations

import gc
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from graphql import FieldNode, OperationDefinitionNode, parse

from flowherd.cli import exit_codes
from flowherd.cli.main import run
from flowherd.cli.program import make_app
from tests.support.commands import CommandLine, background
from tests.support.waiting import wait_until

#: A command leaves its connections to the end of its process.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")

RUN = "3f2a0000-0000-4000-8000-000000000000"
#: Requests after which the server is silent: commands that wait for a run would ask for ever.
MOST_REQUESTS = 40
#: Largest answer that is read here, bytes; usually it is some megabytes.
MOST_BYTES = 100_000

FLOWS = Path(__file__).parents[1] / "fixtures" / "flows.toml"
#: Ways to use each command that asks the server.
ASKING_SERVER: Mapping[str, list[list[str]]] = {
    "ps": [["--all"], ["--json"]],
    "flows": [[]],
    "flow": [["a-flow"]],
    "schedules": [[]],
    "agents": [["--all"]],
    "apply": [[str(FLOWS), "--dry-run"], [str(FLOWS)]],
    "register": [["a-flow", "--command", "--", "true"]],
    "run": [["a-flow"], ["a-flow", "--wait", "--timeout", "0.1s"]],
    "unregister": [["a-flow"]],
    "wait": [[RUN, "--timeout", "0.1s"]],
    "cancel": [[RUN]],
    "retry": [[RUN]],
    "delete": [["run", RUN, "--yes"], ["flow", "a-flow", "--yes"]],
    "schedule": [["ls"], ["pause", "a-flow"], ["next", "a-flow"], ["run-now", "a-flow"]],
    "logs": [[RUN], [RUN, "-f"]],
    "explain": [[RUN], ["a-name"]],
    "poke": [[]],
    "status": [[]],
    "notify": [["list"], ["test"], ["test", "ops", "--timeout", "0.1"]],
    "doctor": [[]],
}
#: Ways to use each command that asks an agent.
ASKING_AGENT: Mapping[str, list[list[str]]] = {
    "pause": [[]],
    "resume": [[]],
    "drain": [[], ["--wait"]],
    "restart": [[]],
    "reload": [[]],
    "poke": [[]],
}
#: Commands that ask no server, or start their own one; `start` is tested below.
ASKING_NOTHING = {"start", "server", "config", "install", "import", "demo", "top"}

HEAD = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
#: Whole answers, as they are sent; the connection is closed after each.
RAW: Mapping[str, bytes] = {
    "a web page": b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html><title>Sign in</title></html>",
    "nothing": b"",
    "an empty body": HEAD.encode() + b"Content-Length: 0\r\n\r\n",
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "a truncated body": HEAD.encode() + b'Content-Length: 500\r\n\r\n{"data": ',
    "a wrong encoding": HEAD.encode() + b"Content-Encoding: gzip\r\n\r\nplain",
    "broken chunks": HEAD.encode() + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a redirect to itself": b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /graphql\r\nContent-Length: 0\r\n\r\n",
    "bytes": HEAD.encode() + b"\r\n\xff\x00\xfe",
    "an unknown status": b"HTTP/1.1 777 Lucky\r\nContent-Length: 0\r\n\r\n",
    "too much": HEAD.encode() + b"\r\n" + b" " * 2 * MOST_BYTES,
    **{
        f"JSON {text}": HEAD.encode() + b"\r\n" + text.encode()
        for text in ("null", "[]", '"x"', "{}", "[" * 5000, '{"data": null}', '{"data": [1]}', '{"errors": {}}')
    },
}
#: Values in place of each field of the answer, and in place of each leaf of an answer of the right shape.
VALUES: list[Any] = [None, {}, "x", 5, True, [None], [{}]]


class NonsenseServer:
    """Answers as `make` says, which is given the request's body; every connection is closed after its answer."""

    def __init__(self) -> None:
        self.make: Callable[[bytes], bytes] = lambda _body: b""
        self.requests = 0
        nonsense = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"] or 0))
                nonsense.requests += 1
                self.close_connection = True
                if nonsense.requests <= MOST_REQUESTS:
                    self.wfile.write(nonsense.make(body))

            do_POST = do_GET

            def handle(self) -> None:
                try:
                    super().handle()
                except OSError:  # the client has had enough
                    pass

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # the client has had enough
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> NonsenseServer:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def data_of(body: bytes, value: Callable[[FieldNode], Any]) -> bytes:
    """Return an answer that has `value` of each field at the top of the query, from flowherd's own server."""
    if not body:
        return _json({"agents": "x"})
    operation = parse(json.loads(body)["query"]).definitions[0]
    assert isinstance(operation, OperationDefinitionNode)
    fields = [field for field in operation.selection_set.selections if isinstance(field, FieldNode)]
    return _json({"data": {(field.alias or field.name).value: value(field) for field in fields}})


def _json(value: Any) -> bytes:
    extensions = "text-so-far, several-runs, retry, notifications"
    head = f"{HEAD}X-Flowherd-Server: 9\r\nX-Flowherd-Extensions: {extensions}\r\nConnection: close\r\n\r\n"
    return head.encode() + json.dumps(value).encode()


def shaped(field: FieldNode, leaf: Any) -> Any:
    """Return a row with all that is selected, or a list of one at the top of a query, with `leaf` for each value."""
    if field.selection_set is None:
        return leaf
    inner = [each for each in field.selection_set.selections if isinstance(each, FieldNode)]
    return {each.name.value: shaped(each, leaf) for each in inner}


def rows(field: FieldNode, leaf: Any) -> Any:
    is_operation = (
        field.name.value.startswith(("create_", "cancel_", "delete_", "archive_", "retry_", "set_", "apply_"))
        or field.selection_set is None
    )
    return shaped(field, leaf) if is_operation else [shaped(field, leaf)]


KINDS: dict[str, Callable[[bytes], bytes]] = {
    **{name: (lambda _body, raw=raw: raw) for name, raw in RAW.items()},
    **{f"{v!r} as data": (lambda body, v=v: data_of(body, lambda _field: v)) for v in VALUES},
    **{f"{v!r} as values": (lambda body, v=v: data_of(body, lambda field: rows(field, v))) for v in VALUES},
    "a time as values": lambda body: data_of(body, lambda field: rows(field, "2024-01-01T00:00:00Z")),
}


@pytest.fixture(scope="module")
def server() -> Iterator[NonsenseServer]:
    with NonsenseServer() as server:
        yield server


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Commands in this process, with little patience and a home of their own."""
    monkeypatch.setenv("FLOWHERD_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("flowherd.cli.runs.silence.PATIENCE_S", 0.1)
    monkeypatch.setattr("flowherd.client.ends.PATIENCE_S", 0.1)
    monkeypatch.setattr("flowherd.cli.runs.follow.POLL_S", 0.01)
    monkeypatch.setattr("flowherd.backends.http.MAX_BODY_BYTES", MOST_BYTES)
    monkeypatch.setattr("flowherd.cli.agent.agent_client._MAX_BODY_BYTES", MOST_BYTES)
    monkeypatch.setattr("flowherd.cli.agent.restart_command._RESTART_S", 0.1)
    yield
    gc.collect()


def test_every_command_is_known_here() -> None:
    names = {each.name for each in (*make_app().registered_commands, *make_app().registered_groups)}
    assert names == {*ASKING_SERVER, *ASKING_AGENT, *ASKING_NOTHING}


def complaints(name: str, kind: str, code: int, out: str, err: str) -> Iterator[str]:
    """Say what is wrong with the end of a command."""
    if code not in (0, 1, 2, 3, 4, 5, 6) or "Traceback" in out + err:
        yield "it crashed"
    if max(map(len, (out + err).splitlines()), default=0) > 2000:
        yield "it is long-winded"
    if kind in RAW and name not in ("status", "doctor"):  # which have more to say
        if code != exit_codes.UNREACHABLE and not (code == exit_codes.FAILED and "refuse" in err):
            yield f"it exits with {code}"
        if len(err.splitlines()) != 1 or out:
            yield "it is not one sentence on standard error"


@pytest.mark.parametrize("name", ASKING_SERVER)
def test_nonsense_of_a_server_is_one_sentence(
    name: str, server: NonsenseServer, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = []
    # doctor only says hello to the server, and does much else.
    kinds = KINDS if name != "doctor" else dict(list(KINDS.items())[:10])
    for kind, make in kinds.items():
        for arguments in ASKING_SERVER[name]:
            server.make, server.requests = make, 0
            given = arguments[: arguments.index("--")] if "--" in arguments else arguments
            code = run([name, *given, "--api", server.url, *arguments[len(given) :]])
            out, err = capsys.readouterr()
            wrong += [(said, arguments, kind, out, err) for said in complaints(name, kind, code, out, err)]
    assert wrong == []


@pytest.mark.parametrize("name", ASKING_AGENT)
def test_nonsense_of_an_agent_is_one_sentence(
    name: str, server: NonsenseServer, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    described = {"agent": "x", "status": 5, "pid": "x", "instance": [], "runs": None, "preloading": [5]}
    kinds = {**RAW, "a wrong description": _json(described)}
    if name == "poke":
        del kinds["an empty body"], kinds["JSON {}"], kinds["a wrong description"]  # which Prefect's agents answer, too
    wrong = []
    for kind, raw in kinds.items():
        for arguments in ASKING_AGENT[name]:
            server.make, server.requests = (lambda _body, raw=raw: raw), 0
            code = run([name, *arguments, "--agent-address", server.url])
            out, err = capsys.readouterr()
            wrong += [(said, arguments, kind, out, err) for said in complaints(name, kind, code, out, err)]
    assert wrong == []


def test_an_agent_goes_on_whatever_its_server_answers(
    server: NonsenseServer, tmp_path: Path, no_process_left: None
) -> None:
    kinds = [make for name, make in KINDS.items() if name != "too much"]
    server.requests = -1_000_000
    server.make = lambda body: kinds[server.requests % len(kinds)](body)
    home = tmp_path / "home"
    home.mkdir()
    command = CommandLine(home, {"PREFECT__CLOUD__API": server.url, "PREFECT__CLOUD__AGENT__LABELS": "[]"})
    with background(command, "start", until="Starting") as agent:
        wait_until(lambda: server.requests >= -1_000_000 + 4, what=agent.text)
        agent.stop()
        assert "Traceback" not in agent.text()
        assert len(agent.text()) < 10_000
