"""RQ, Celery, Huey and supervisord, each with one job at a time, beside which flowherd's runs are measured.

Redis listens on a Unix socket and stores nothing on the disk. Each worker is started as its documentation says, in an
environment that is made once, like those of the real Prefects (tests/peers/environments.py).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.measuring import FirstLines
from supervisor.xmlrpc import SupervisorTransport  # type: ignore[import-untyped]
from tests.peers.environments import CACHE, Unavailable, is_complete, locked, make_environment
from tests.support.waiting import wait_until

PROGRAMS = Path(__file__).with_name("programs")
PINS = Path(__file__).parents[1] / "tests" / "peers" / "pins" / "queues.txt"
#: What has to be known of each beside its times.
NOTES = {
    "rq": "a forked process a job; Redis writes nothing to the disk",
    "celery": "no process a job: 2 ready workers; Redis writes nothing to the disk",
    "huey": "no process a job: 2 ready workers; Redis writes nothing to the disk",
    "supervisord": "a process a job; no queue, so from the call, and nothing on the disk; result polled",
}


class Times(NamedTuple):
    """Of one job, milliseconds from the answer to its creation."""

    line: float
    result: float


class Peer:
    """A worker of a queue, and a program that creates jobs for it."""

    def __init__(self, client: subprocess.Popen[str], lines: FirstLines) -> None:
        self._client = client
        self._lines = lines

    def once(self) -> Times:
        answer = self._ask(1)
        line = self._lines.take()
        return Times(1000 * (line - answer["answered"]), 1000 * (answer["result"] - answer["answered"]))

    def burst(self, count: int) -> float:
        """Return the jobs a second, from the first creation to the last result."""
        began = time.monotonic()
        answer = self._ask(count)
        self._lines.clear()
        return count / (answer["result"] - began)

    def _ask(self, count: int) -> dict[str, float]:
        assert self._client.stdin is not None and self._client.stdout is not None
        self._client.stdin.write(f"{count}\n")
        self._client.stdin.flush()
        answer: dict[str, float] = json.loads(self._client.stdout.readline())
        return answer


class Supervisord:
    """Starts the program that is in supervisord's configuration."""

    def __init__(self, socket: Path, lines: FirstLines) -> None:
        self._socket = socket
        self._calls: Any = None
        self._lines = lines

    def answers(self) -> bool:
        transport = SupervisorTransport(None, None, serverurl=f"unix://{self._socket}")
        self._calls = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport).supervisor
        try:
            return bool(self._calls.getState()["statename"] == "RUNNING")
        except (OSError, xmlrpc.client.Error):
            return False

    def once(self) -> Times:
        answered = time.monotonic()
        self._calls.startProcess("job", False)
        line = self._lines.take()
        while self._calls.getProcessInfo("job")["statename"] != "EXITED":
            time.sleep(0.001)
        return Times(1000 * (line - answered), 1000 * (time.monotonic() - answered))

    def burst(self, count: int) -> float:
        raise Unavailable("supervisord has no queue")


def redis_program() -> str:
    """Return the path of Redis. Raises Unavailable."""
    found = shutil.which("redis-server")
    if found is None:
        raise Unavailable("there is no redis-server on PATH: `apt-get install redis-server`; the program is enough")
    return found


def queues_python() -> Path:
    """Return the Python of the environment with the queues; make it if it is missing. Raises Unavailable."""
    import hashlib

    directory = CACHE / "peers" / f"queues-{hashlib.sha256(PINS.read_bytes()).hexdigest()[:12]}"
    directory.parent.mkdir(parents=True, exist_ok=True)
    with locked(directory.with_name(directory.name + ".lock")):
        if not is_complete(directory):
            make_environment(directory, Path(sys.executable), "-r", str(PINS))
    return directory / "bin" / "python"


@contextmanager
def running(
    command: list[str], place: Path, environ: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the end of the block; its output goes to a file in `place`."""
    with (place / f"{Path(command[0]).name}.log").open("ab") as log:
        process = subprocess.Popen(command, env=environ, cwd=PROGRAMS, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def queue_peer(name: str, place: Path, lines: FirstLines) -> Iterator[Peer]:
    """Run Redis and a worker of `rq`, `celery` or `huey`. Raises Unavailable."""
    python, socket = queues_python(), place / "redis.sock"
    program = redis_program()
    environ = {
        **os.environ,
        "BENCHMARK_REDIS": str(socket),
        "BENCHMARK_FIFO": str(lines.path),
        "PYTHONPATH": str(PROGRAMS),
    }
    settings = ["--port", "0", "--unixsocket", str(socket), "--save", "", "--appendonly", "no", "--dir", str(place)]
    tools = python.parent
    workers = {
        "rq": [str(tools / "rq"), "worker", "--url", f"unix://{socket}", "--quiet"],
        "celery": [str(tools / "celery"), "-A", "queue_tasks", "worker", "--pool", "prefork", "--concurrency", "2"],
        "huey": [str(tools / "huey_consumer"), "queue_tasks.huey", "-k", "process", "-w", "2", "-d", "0.001"],
    }
    with ExitStack() as stack:
        stack.enter_context(running([program, *settings], place))
        wait_until(socket.exists, what="Redis")
        stack.enter_context(running(workers[name], place, environ))
        client = subprocess.Popen(
            [str(python), str(PROGRAMS / "queue_client.py"), name],
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert client.stdout is not None and client.stdout.readline() == "ready\n"
            peer = Peer(client, lines)
            peer.once()  # the worker is there
            yield peer
        finally:
            client.communicate(timeout=20)


@contextmanager
def supervisord_peer(place: Path, lines: FirstLines) -> Iterator[Supervisord]:
    """Run supervisord with one program."""
    socket = place / "supervisor.sock"
    code = f"import os, time; f = os.open({str(lines.path)!r}, 1); os.write(f, b'%r\\n' % time.monotonic())"
    (place / "job.py").write_text(code)
    configuration = place / "supervisord.conf"
    configuration.write_text(
        f"[supervisord]\nnodaemon=true\nlogfile={place}/supervisord.log\npidfile={place}/supervisord.pid\n"
        f"[unix_http_server]\nfile={socket}\n[rpcinterface:supervisor]\n"
        "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n"
        f"[program:job]\ncommand={sys.executable} -I -S {place}/job.py\n"
        "autostart=false\nautorestart=false\nstartsecs=0\n"
    )
    program = Path(sys.executable).parent / "supervisord"
    with running([str(program), "-c", str(configuration)], place):
        peer = Supervisord(socket, lines)
        wait_until(peer.answers, what="supervisord")
        yield peer
