"""The embedded server as a child process: started beside an agent, and ended after it.

The child reads from a pipe whose writing end is in this process, so it ends when this process does, however that ends.
"""

from __future__ import annotations

import fcntl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from flowherd.backends.discovery import Api, running_server
from flowherd.cli import exit_codes
from flowherd.cli.failures import CommandError
from flowherd.cli.printing import print_warning
from flowherd.cli.server.server_program import server_argv, server_environment
from flowherd.config import LoadedSettings
from flowherd.config.loading import HOME_VARIABLE
from flowherd.host.processes.flock import FORK_LOCK
from flowherd.host.processes.orphans import own_child

#: How long the server may take until it answers; the first start on a slow disk creates the database.
READY_S = 30.0
#: Pause between the steps of stopping it; at this point it has nothing to lose except open connections.
STOP_S = 3.0
_POLL_S = 0.05
#: A server locks this file in its data directory as long as it runs (flowherd_server/server_files.py).
_LOCK_FILE = "lock"
#: Pause before a server that has ended by itself is started again, and the longest one if it ends again soon, seconds.
_AGAIN_S = 1.0
_LONGEST_AGAIN_S = 60.0
#: A server that has lived for so long, seconds, did not end at its start.
_LASTED_S = 60.0
#: Time between two looks whether the server lives, seconds.
_LOOK_S = 0.5


@contextmanager
def embedded_server(loaded: LoadedSettings) -> Iterator[tuple[Api, bool]]:
    """Start the server, wait until it is ready, and end it on leaving the block.

    If another one was started for the same home at the same time, that one is used and left alone. Raises CommandError
    if none becomes ready.
    """
    child = _start(loaded)
    try:
        api = _wait_until_ready(child, loaded)
    except BaseException:
        _stop(child)
        raise
    if api.embedded_pid != child.pid:
        yield api, False
        return
    keeper = _Keeper(loaded, child, urlsplit(api.address).port)
    try:
        yield api, True
    finally:
        keeper.close()


class _Keeper:
    """Starts the server again if it ends by itself, because its database was replaced or it was killed.

    At the same port, so that the agent finds it. A thread waits for the server; `close` ends both.
    """

    def __init__(self, loaded: LoadedSettings, child: subprocess.Popen[bytes], port: int | None) -> None:
        self._loaded = loaded
        self._child = child
        self._port = port
        self._started_s = time.monotonic()
        self._pause_s = _AGAIN_S
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="server", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the server."""
        self._closing.set()
        self._thread.join(_AGAIN_S)
        _stop(self._child)

    def _keep(self) -> None:
        while not self._closing.wait(_LOOK_S):
            code = self._child.poll()
            if code is None:
                continue
            has_lasted = time.monotonic() - self._started_s > _LASTED_S
            self._pause_s = _AGAIN_S if has_lasted else self._pause_s
            print_warning(f"the embedded server has ended (exit code {code}); next start in {self._pause_s:.0f} s")
            if self._closing.wait(self._pause_s):
                return
            self._pause_s = min(2 * self._pause_s, _LONGEST_AGAIN_S)
            self._started_s, self._child = time.monotonic(), _start(self._loaded, self._port)


def _start(loaded: LoadedSettings, port: int | None = None) -> subprocess.Popen[bytes]:
    home, token = str(loaded.paths.home), loaded.settings.server.token
    at_port = [] if port is None else ["--port", str(port)]
    with FORK_LOCK:
        child = subprocess.Popen(
            server_argv(loaded, "--stop-with-parent", *at_port),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env={**server_environment(), HOME_VARIABLE: home, "FLOWHERD__SERVER__TOKEN": token},
            # Ctrl-C at the terminal is for the agent, which still needs the server while it stops.
            start_new_session=True,
        )
        own_child(child)
    return child


def _wait_until_ready(child: subprocess.Popen[bytes], loaded: LoadedSettings) -> Api:
    deadline = time.monotonic() + READY_S
    converting = loaded.paths.converting_file
    while time.monotonic() < deadline:
        if converting.exists():
            deadline = time.monotonic() + READY_S
        has_ended = child.poll() is not None
        found = running_server(loaded.paths.server_file)
        if found is not None and (found.embedded_pid == child.pid or has_ended):
            return found
        if has_ended and not _has_server(loaded.paths.data_dir):
            raise CommandError(
                f"the embedded server did not start (exit code {child.returncode}), see above; with -a the agent uses "
                "another server",
                exit_codes.USAGE,
            )
        time.sleep(_POLL_S)
    raise CommandError(f"the embedded server was not ready after {READY_S:.0f} s", exit_codes.UNREACHABLE)


def _has_server(data_dir: Path) -> bool:
    """Return whether a server, which may still be starting, holds the lock of the data directory."""
    try:
        with (data_dir / _LOCK_FILE).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def _stop(child: subprocess.Popen[bytes]) -> None:
    if child.stdin is not None:
        with suppress(OSError):  # the server has ended already
            child.stdin.close()
    for signal_child in (None, child.terminate, child.kill):
        if signal_child is not None:
            signal_child()
        try:
            child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            continue
        return
