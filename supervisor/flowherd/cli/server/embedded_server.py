"""The embedded server as a child process: started beside an agent, and ended after it.

The child reads from a pipe whose writing end is in this process, so it ends when this process does, however that ends.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from flowherd.backends.discovery import Api, running_server
from flowherd.cli import exit_codes
from flowherd.cli.failures import CommandError
from flowherd.cli.server.server_program import server_argv, server_environment
from flowherd.config import LoadedSettings
from flowherd.config.loading import HOME_VARIABLE
from flowherd.host.processes.orphans import own_child

#: How long the server may take until it answers; the first start on a slow disk creates the database.
READY_S = 30.0
#: Pause between the steps of stopping it; at this point it has nothing to lose except open connections.
STOP_S = 3.0
_POLL_S = 0.05
#: File in the data directory while the server converts a database of an earlier release, which may take minutes.
_CONVERTING_FILE = "converting"


@contextmanager
def embedded_server(loaded: LoadedSettings) -> Iterator[Api]:
    """Start the server, wait until it is ready, and end it on leaving the block.

    Raises CommandError if it does not become ready.
    """
    child = _start(loaded)
    try:
        yield _wait_until_ready(child, loaded)
    finally:
        _stop(child)


def _start(loaded: LoadedSettings) -> subprocess.Popen[bytes]:
    home, token = str(loaded.paths.home), loaded.settings.server.token
    child = subprocess.Popen(
        server_argv(loaded, "--stop-with-parent"),
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
    converting = loaded.paths.data_dir / _CONVERTING_FILE
    while time.monotonic() < deadline:
        if converting.exists():
            deadline = time.monotonic() + READY_S
        found = running_server(loaded.paths.server_file)
        if found is not None and found.embedded_pid == child.pid:
            return found
        if child.poll() is not None:
            raise CommandError(
                f"the embedded server did not start (exit code {child.returncode}), see above; "
                f"set another port with FLOWHERD__SERVER__BIND_PORT, or an API address with -a",
                exit_codes.USAGE,
            )
        time.sleep(_POLL_S)
    raise CommandError(f"the embedded server was not ready after {READY_S:.0f} s", exit_codes.UNREACHABLE)


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
