"""The embedded server as a child process: brought up beside an agent, and ended after it.

The child holds the reading end of a pipe whose writing end is ours, so it ends when we do, however we end.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from flowherd.backends.discovery import Api, running_server
from flowherd.cli import exit_codes
from flowherd.cli.failures import CommandError
from flowherd.config import LoadedSettings
from flowherd.config.loading import HOME_VARIABLE

#: The first start on a slow disk creates the database.
READY_S = 30.0
#: Between asking it to end and killing it; it has nothing to lose by then but open connections.
STOP_S = 10.0
_POLL_S = 0.05


@contextmanager
def embedded_server(loaded: LoadedSettings) -> Iterator[Api]:
    """Bring the server up, wait until it is ready, and end it on leaving.

    Raises CommandError when it does not come up.
    """
    child = _start(loaded)
    try:
        yield _ready(child, loaded)
    finally:
        _stop(child)


def _start(loaded: LoadedSettings) -> subprocess.Popen[bytes]:
    server = loaded.settings.server
    arguments = ["--host", server.bind, "--port", str(server.bind_port), "--data-dir", str(loaded.paths.data_dir)]
    # The token goes by the environment: every user of the host can read an argv.
    environ = {**os.environ, HOME_VARIABLE: str(loaded.paths.home), "FLOWHERD__SERVER__TOKEN": server.token}
    return subprocess.Popen(
        [sys.executable, "-m", "flowherd_server", *arguments, "--stop-with-parent"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env=environ,
        # Ctrl-C at the terminal is for the agent, which still needs the server for its clean stop.
        start_new_session=True,
    )


def _ready(child: subprocess.Popen[bytes], loaded: LoadedSettings) -> Api:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        found = running_server(loaded.paths.server_file)
        if found is not None and found.embedded_pid == child.pid:
            return found
        if child.poll() is not None:
            raise CommandError(
                f"the embedded server did not come up (exit code {child.returncode}), see above; "
                f"set another port with FLOWHERD__SERVER__BIND_PORT, or an API address with -a",
                exit_codes.USAGE,
            )
        time.sleep(_POLL_S)
    raise CommandError(f"the embedded server was not ready after {READY_S:.0f} s", exit_codes.UNREACHABLE)


def _stop(child: subprocess.Popen[bytes]) -> None:
    if child.stdin is not None:
        with suppress(OSError):  # it is gone already
            child.stdin.close()
    for ask in (None, child.terminate, child.kill):
        if ask is not None:
            ask()
        try:
            child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            continue
        return
