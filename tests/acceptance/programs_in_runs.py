"""Programs and modules that flows use, tried one after the other: `programs_in_runs.py PACKAGES [NAME...]`.

Prints one object: for each check "" if it works, else what went wrong. PACKAGES is a directory with pandas and numpy.
They work in the current directory and in HOME.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import locale
import multiprocessing
import os
import pty
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from multiprocessing import shared_memory
from pathlib import Path

HOME = Path(os.environ["HOME"])
_TIME_S = 60


def run(*command: str, text: str = "", **variables: str) -> str:
    done = subprocess.run(
        command,
        input=text,
        capture_output=True,
        text=True,
        timeout=_TIME_S,
        env={**os.environ, **variables},
        check=False,
    )
    if done.returncode != 0:
        raise OSError(f"{command[0]}: {done.returncode}: {(done.stderr or done.stdout).strip()[-200:]}")
    return done.stdout


def square(number: int) -> int:
    return number * number


def by_pool(method: str) -> None:
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(square, range(8)) == [n * n for n in range(8)]


def manager() -> None:
    with multiprocessing.Manager() as made:
        numbers = made.dict()
        process = multiprocessing.Process(target=numbers.update, args=({"a": 1},))
        process.start()
        process.join()
        assert dict(numbers) == {"a": 1}


def write_shared(name: str) -> None:
    memory = shared_memory.SharedMemory(name=name)
    memory.buf[:1] = b"\7"  # type: ignore[index]
    memory.close()


def shared() -> None:
    memory = shared_memory.SharedMemory(create=True, size=1 << 20)
    process = multiprocessing.Process(target=write_shared, args=(memory.name,))
    process.start()
    process.join()
    try:
        assert bytes(memory.buf[:1]) == b"\7"  # type: ignore[index]
    finally:
        memory.close()
        memory.unlink()


def numpy_and_pandas() -> None:
    code = (
        "import numpy, pandas; a = numpy.random.rand(400, 400); assert (a @ a).shape == (400, 400); "
        "pandas.DataFrame({'x': range(1000)}).to_csv('it.csv'); assert pandas.read_csv('it.csv').x.sum() == 499500"
    )
    run(sys.executable, "-c", code, PYTHONPATH=sys.argv[1])


def matplotlib() -> None:
    code = "import matplotlib; matplotlib.use('agg'); from matplotlib import pyplot; pyplot.savefig('plot.png')"
    run(sys.executable, "-c", code, PYTHONPATH=sys.argv[1])


def chromium(*options: str) -> None:
    Path("page.html").write_text("<body><script>document.body.append('drawn ' + 6 * 7)</script>")
    common = ("--headless", "--disable-gpu", "--user-data-dir=profile", "--dump-dom")
    assert "drawn 42" in run("chromium", *common, *options, Path("page.html").absolute().as_uri())


def sqlite_wal(place: Path = Path()) -> None:
    path = place / "wal.sqlite"
    with sqlite3.connect(path, isolation_level=None) as first, sqlite3.connect(path) as second:
        assert first.execute("PRAGMA journal_mode=WAL").fetchone() == ("wal",)
        first.execute("CREATE TABLE t (x)")
        first.execute("INSERT INTO t VALUES (1)")
        assert second.execute("SELECT count(*) FROM t").fetchone() == (1,)


def shell() -> None:
    script = 'x=$(echo one | tr a-z A-Z); (sleep 0 & wait); cat <(echo "$x") <<< two; mktemp > /dev/null'
    assert run("bash", "-ec", script) == "ONE\n"


def named_pipe() -> None:
    assert run("sh", "-c", "mkfifo pipe && (echo through > pipe &) && cat pipe") == "through\n"


def daemon() -> None:
    script = "read pid rest < /proc/self/stat; echo $pid > new; mv new pid; exec sleep 600"
    run("sh", "-c", 'nohup setsid sh -c "$0" > out 2>&1 &', script)
    wait_for(Path("pid"))
    os.kill(int(Path("pid").read_text()), signal.SIGKILL)


def terminal() -> None:
    pid, fd = pty.fork()
    if pid == 0:
        os.execvp("tty", ["tty"])
    found = b""
    with contextlib.suppress(OSError):  # the end of a terminal
        while part := os.read(fd, 1000):
            found += part
    os.waitpid(pid, 0)
    assert found.startswith(b"/dev/pts/")


def processes() -> None:
    assert f"{os.getpid()} " in run("ps", "-e", "-o", "pid,args")
    assert "PID" in run("top", "-b", "-n", "1", TERM="dumb")


def temporary_files() -> None:
    with tempfile.NamedTemporaryFile() as file, tempfile.NamedTemporaryFile(dir="/dev/shm") as memory:
        file.write(b"x")
        memory.write(b"x")


def language_and_time() -> None:
    locale.setlocale(locale.LC_ALL, "C.UTF-8")
    assert run("date", "-d", "@0", "+%H", TZ="Asia/Tokyo") == "09\n"


def looked_up() -> None:
    assert "127.0.0.1" in {found[4][0] for found in socket.getaddrinfo("localhost", 80)}


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + _TIME_S
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)


def git() -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.invalid")
    run("git", "init", "-q", "source")
    Path("source/file").write_text("x")
    run("git", "-C", "source", "add", ".")
    run("git", "-C", "source", *identity, "commit", "-qm", "One")
    run("git", "clone", "-q", "file://" + str(Path("source").absolute()), "copy")
    assert Path("copy/file").read_text() == "x"


def venv_and_pip() -> None:
    package = Path("package")
    package.mkdir()
    (package / "pyproject.toml").write_text("[project]\nname = 'made'\nversion = '1'\n")
    (package / "made.py").write_text("")
    run(sys.executable, "-m", "venv", "environment")
    # Its own setuptools would have to come from an index.
    run("environment/bin/pip", "install", "-q", "--no-index", "--no-build-isolation", "./package", **_BUILD)
    run("environment/bin/python", "-c", "import made")


_BUILD = {"PYTHONPATH": sys.argv[1] if len(sys.argv) > 1 else "", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def tmux() -> None:
    # Without SHELL it takes the one of the user's entry in /etc/passwd, and for nobody that one only refuses.
    command = "echo spoken > spoken; sleep 60"
    run("tmux", "-f", "/dev/null", "new-session", "-d", command, SHELL="/bin/sh")
    try:
        deadline = time.monotonic() + _TIME_S
        while not (Path("spoken").exists() and Path("spoken").read_text()) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert Path("spoken").read_text() == "spoken\n"
    finally:
        run("tmux", "kill-server")


def ssh_agent() -> None:
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "key")
    assert "ED25519" in run("ssh-agent", "sh", "-c", "ssh-add -q key && ssh-add -l")


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"heard")

    def log_message(self, *_arguments: object) -> None:
        pass


def http() -> None:
    server = HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}", timeout=_TIME_S) as answer:
            assert answer.read() == b"heard"
    finally:
        server.shutdown()
        server.server_close()


def asyncio_processes() -> None:
    async def speak() -> bytes:
        process = await asyncio.create_subprocess_exec("echo", "x", stdout=asyncio.subprocess.PIPE)
        return (await process.communicate())[0]

    assert asyncio.run(speak()) == b"x\n"


def compiler() -> None:
    Path("it.c").write_text("int main(void) { return 0; }\n")
    run("gcc", "-o", "it", "it.c")
    run("./it")


def own_child() -> None:
    child = subprocess.Popen(["sleep", "60"])
    os.nice(1)
    child.send_signal(signal.SIGTERM)
    assert child.wait(_TIME_S) == -signal.SIGTERM


def write_in_home() -> None:
    run("git", "config", "--global", "a.b", "c")
    sqlite_wal(HOME)


def other_owner() -> None:
    Path("of-another").touch()
    os.chown("of-another", 12, 12)


CHECKS: dict[str, Callable[[], object]] = {
    "fork": lambda: by_pool("fork"),
    "spawn": lambda: by_pool("spawn"),
    "forkserver": lambda: by_pool("forkserver"),
    "manager": manager,
    "shared-memory": shared,
    "asyncio": asyncio_processes,
    "packages": numpy_and_pandas,
    "matplotlib": matplotlib,
    "sqlite": sqlite_wal,
    "shell": shell,
    "pipe": named_pipe,
    "daemon": daemon,
    "terminal": terminal,
    "processes": processes,
    "strace": lambda: run("strace", "-f", "-o", "trace", "sh", "-c", "true; true"),
    "temporary": temporary_files,
    "language": language_and_time,
    "localhost": looked_up,
    "server": lambda: socket.create_connection(("127.0.0.1", int(os.environ["SERVER_PORT"])), _TIME_S).close(),
    "git": git,
    "pip": venv_and_pip,
    "tmux": tmux,
    "ssh-agent": ssh_agent,
    "http": http,
    "compiler": compiler,
    "child": own_child,
    "home": write_in_home,
    "set-uid": lambda: run(os.environ["LIKE_SUDO"], "true"),
    "chown": other_owner,
    "mount": lambda: run("mount", "-t", "tmpfs", "tmpfs", "/mnt"),
    "chromium": lambda: chromium("--no-sandbox"),
    "chromium-sandbox": chromium,
    "container": lambda: run("unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "true"),
}


def main() -> None:
    found = {}
    for name in sys.argv[2:] or CHECKS:
        try:
            CHECKS[name]()
        except Exception as error:  # every kind of failure is an answer here
            found[name] = f"{type(error).__name__}: {error}"
        else:
            found[name] = ""
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
