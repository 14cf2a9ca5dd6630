"""A real fork server under any interpreter, and real runs in temporary run directories.

Speaks the fork server's protocol without any code of the agent, so it tests the child side alone.
"""

from __future__ import annotations

import array
import fcntl
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from flowherd_runner.contract.files import (
    EXIT_FILE,
    JOURNAL_FILE,
    LOCK_FILE,
    SPEC_FILE,
    STARTED_FILE,
    STOP_FILE,
    read_json,
    write_json,
)
from flowherd_runner.contract.identity import is_alive
from flowherd_runner.contract.journal import STREAM_NAMES, Record, unpack_records
from flowherd_runner.contract.messages import MAX_MESSAGE_BYTES, decode_message, encode_message
from tests.support.waiting import wait_until

#: Variable with the interpreters that were found.
_INTERPRETERS = "FLOWHERD_TEST_INTERPRETERS"
BOOT = Path(__file__).resolve().parents[2] / "runners" / "flowherd_runner" / "boot.py"

#: A sitecustomize.py by which a fork server has a thread that no preloaded module has started, so that it cannot fork.
THREAD_AT_START = """
import threading
with open("/proc/self/cmdline") as command_line:
    if "forkserver" in command_line.read():
        threading.Thread(target=threading.Event().wait, daemon=True).start()
"""


@cache
def interpreters() -> list[str]:
    """Return the interpreter of this test run, then one of each other version from 3.7 on that is installed here.

    They are looked for once: the processes that run tests side by side have the answer in their environment.
    """
    if _INTERPRETERS not in os.environ:
        os.environ[_INTERPRETERS] = os.pathsep.join(_found_interpreters())
    return os.environ[_INTERPRETERS].split(os.pathsep)


def _found_interpreters() -> list[str]:
    found = {f"{sys.version_info[0]}.{sys.version_info[1]}": sys.executable}
    candidates = sorted(Path("~/.pyenv/versions").expanduser().glob("3.*/bin/python"))
    home = os.environ.get("PYENV_ROOT")
    candidates += sorted(Path(home).glob("versions/3.*/bin/python")) if home else []
    _add_versions(found, candidates)
    on_path = (shutil.which(f"python3.{minor}") for minor in range(7, 20) if f"3.{minor}" not in found)
    _add_versions(found, [Path(path) for path in on_path if path])
    return list(found.values())


def _add_versions(found: dict[str, str], candidates: list[Path]) -> None:
    for candidate in candidates:
        version = _version(str(candidate))
        if version is not None and version not in found:
            found[version] = str(candidate)


def _version(interpreter: str) -> str | None:
    code = "import sys, ctypes; print('%d.%d' % sys.version_info[:2]); sys.exit(sys.version_info < (3, 7))"
    done = subprocess.run([interpreter, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


@dataclass
class Run:
    """One run directory, and its runner once it is started."""

    directory: Path
    spec: dict[str, Any]
    pid: int = 0
    start_ticks: int = 0

    @property
    def exit(self) -> dict[str, Any] | None:
        return read_json(str(self.directory), EXIT_FILE)

    @property
    def started(self) -> dict[str, Any] | None:
        return read_json(str(self.directory), STARTED_FILE)

    def wait(self, timeout_s: float = 20.0) -> dict[str, Any]:
        """Wait until the runner has ended; return the exit record."""
        wait_until(
            lambda: not is_alive(self.pid, self.start_ticks),
            timeout_s=timeout_s,
            what=lambda: f"the end of the run:\n{self.describe()}",
        )
        record = self.exit
        assert record is not None, self.describe()
        return record

    def records(self) -> list[Record]:
        path = self.directory / JOURNAL_FILE
        return list(unpack_records(path.read_bytes())) if path.exists() else []

    def lines(self, *streams: str) -> list[str]:
        """Return the texts of the journal's records in order: of all streams, or of those named."""
        return [_text(record) for record in self.records() if not streams or STREAM_NAMES[record.stream] in streams]

    def log_payloads(self) -> list[tuple[int, dict[str, Any]]]:
        """Return level and content of each record that a logger has written to the journal."""
        found = [record for record in self.records() if STREAM_NAMES[record.stream] == "log"]
        return [(record.level, json.loads(record.payload)) for record in found]

    def wait_for_line(self, text: str, timeout_s: float = 20.0) -> None:
        wait_until(lambda: text in self.lines(), timeout_s=timeout_s, what=lambda: f"{text!r}:\n{self.describe()}")

    def write_stop(self, reason: str = "cancelled", detail: str | None = "by a test", grace_s: float = 5.0) -> None:
        write_json(str(self.directory), STOP_FILE, {"reason": reason, "detail": detail, "grace_s": grace_s})

    def stop(self, reason: str = "cancelled", detail: str | None = "by a test", grace_s: float = 5.0) -> None:
        """Request the end of the run as the agent does."""
        self.write_stop(reason, detail, grace_s)
        os.kill(self.pid, signal.SIGTERM)

    def lock_is_held(self) -> bool:
        with (self.directory / LOCK_FILE).open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False

    def describe(self) -> str:
        errors = self.directory / "runner.err"
        return f"{self.exit}\n{self.lines()[-40:]}\n{errors.read_text() if errors.exists() else ''}"


def _text(record: Record) -> str:
    text = record.payload.decode("utf-8", "surrogateescape")
    return str(json.loads(text)["message"]) if STREAM_NAMES[record.stream] in ("log", "flowherd") else text


@dataclass
class ForkServer:
    """A fork server under `interpreter`, and this end of its channel."""

    interpreter: str
    runs_directory: Path
    preload: Sequence[str] = ()
    env: dict[str, str] = field(default_factory=dict)
    #: Credentials of the agent, which are masked in the output of runs.
    secrets: Sequence[str] = ()
    #: A program and its arguments that becomes the fork server, such as `setpriv`.
    prefix: Sequence[str] = ()
    #: Its "ready" message.
    ready: dict[str, Any] = field(default_factory=dict)
    #: Wait status by pid, from its "gone" messages.
    gone: dict[int, int] = field(default_factory=dict)
    #: Files that it has reported as changed.
    stale: list[str] = field(default_factory=list)
    #: How many spare runners it is asked to keep. With any, each run waits for one.
    spares_wanted: int = 0
    #: How long they wait before they rehearse, seconds; None leaves that to the fork server.
    idle_s: float | None = None
    #: Whether its spares and its runs have a pid namespace of their own.
    apart: bool = False
    #: Pids of its spare runners, as it has reported them last.
    spares: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.runs_directory.mkdir(parents=True, exist_ok=True)
        self._requests = 0
        self.channel, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [*self.prefix, self.interpreter, str(BOOT), "forkserver", "--fd", str(other.fileno())]
        for name in self.preload:
            command += ["--preload", name]
        secrets = tempfile.TemporaryFile()  # noqa: SIM115 - closed below, once the program has it
        secrets.write(json.dumps(list(self.secrets)).encode())
        secrets.flush()
        if self.secrets:
            command += ["--secrets-fd", str(secrets.fileno())]
        self.output = self.runs_directory / f"forkserver-{uuid.uuid4().hex[:8]}.out"
        with self.output.open("wb") as file, secrets:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                pass_fds=[other.fileno(), *([secrets.fileno()] if self.secrets else [])],
                start_new_session=True,
                env={**os.environ, **self.env},
            )
        other.close()
        self.ready = self.receive("ready")
        if self.spares_wanted:
            request = {"number": self.spares_wanted, "idle_s": self.idle_s, "apart": self.apart}
            self.send(encode_message({"op": "spares", **request}))

    def receive(self, *ops: str, timeout_s: float = 20.0) -> dict[str, Any]:
        """Return the next message of these kinds; keep what the messages before it say."""
        while True:
            readable, _, _ = select.select([self.channel], [], [], timeout_s)
            assert readable, f"no {ops} from the fork server: {self.output.read_text()}"
            message = decode_message(self.channel.recv(MAX_MESSAGE_BYTES))
            if message["op"] == "gone":
                self.gone[message["pid"]] = message["status"]
            if message["op"] == "spares":
                self.spares = message["apart"]["pids"] if self.apart else message["pids"]
            if message["op"] == "stale":
                self.stale.append(message["file"])
            if message["op"] in ops:
                return message

    def wait_for_spare(self) -> int:
        """Return the pid of the spare runner that gets the next run, once there is one."""
        while not self.spares:
            self.receive("spares")
        return self.spares[0]

    def prepare(self, kind: str, target: dict[str, Any], **spec: Any) -> Run:
        """Make a run directory with its spec, as the agent does."""
        run_id = str(uuid.uuid4())
        directory = self.runs_directory / run_id
        directory.mkdir(mode=0o700)
        whole: dict[str, Any] = {
            "flow_run_id": run_id,
            "flow_run_name": "a-run",
            "flow_name": "a flow",
            "claim": "t",
            "kind": kind,
        }
        whole.update({"target": target, "grace_s": 5.0, **spec})
        write_json(str(directory), SPEC_FILE, whole, sync=False)
        return Run(directory, whole)

    def start(self, run: Run) -> Run:
        """Lock the run's directory, pass the lock on, and wait for the runner's pid."""
        if self.spares_wanted:
            self.wait_for_spare()
        answer = self.ask(run)
        assert answer["op"] == "started", answer
        return run

    def hand_over(self, run: Run) -> socket.socket:
        """Ask for the runner of a run in two steps; return the socket on which it is told to go on."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(20.0)
        with theirs:
            answer = self.ask(run, fds=[theirs.fileno()])
        assert answer["op"] == "started", answer
        return ours

    def ask(self, run: Run, fds: Sequence[int] = (), **more: Any) -> dict[str, Any]:
        """Ask for the runner of a run, with `more` in the request; return the answer, which may be a refusal."""
        lock = os.open(run.directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._requests += 1
            message = {"op": "start", "request": self._requests, "directory": str(run.directory), **more}
            message.setdefault("apart", self.apart)
            self.send(encode_message(message), [lock, *fds])
        finally:
            os.close(lock)
        answer = self.receive("started", "refused")
        assert answer["request"] == self._requests
        if answer["op"] == "started":
            run.pid, run.start_ticks = answer["pid"], answer["start_ticks"]
        return answer

    def send(self, data: bytes, fds: Sequence[int] = ()) -> None:
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.channel.sendmsg([data], ancillary)

    def command(self, *argv: str, **spec: Any) -> Run:
        return self.start(self.prepare("command", {"argv": list(argv)}, **spec))

    def python(self, code: str, function: str = "main", **spec: Any) -> Run:
        """Run `function` of a file with that code."""
        source = self.runs_directory / f"flow_{uuid.uuid4().hex[:8]}.py"
        source.write_text(code)
        return self.start(self.prepare("python", {"ref": f"{source}:{function}"}, **spec))

    def close(self) -> None:
        """Close the channel, as an agent that ends does."""
        self.channel.close()
        self.process.wait(timeout=20)


def fork_servers(interpreter: str, directory: Path, spares: int = 0) -> Iterator[ForkServer]:
    """For fixtures: yield a fork server and close it at the end."""
    server = ForkServer(interpreter, directory, spares_wanted=spares, idle_s=0.0)
    try:
        yield server
    finally:
        server.close()
