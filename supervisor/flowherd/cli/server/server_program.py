"""How the embedded server is started: its command line, and the environment that it needs."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowherd.config import LoadedSettings


def server_argv(loaded: LoadedSettings, *more: str) -> list[str]:
    """Return the command line of the server with these settings; `more` are further arguments of it.

    The token is not among them, because every user of the host can read a command line.
    """
    server = loaded.settings.server
    address = ["--host", server.bind, "--port", str(server.bind_port)]
    data = ["--data-dir", str(loaded.paths.data_dir)]
    return [sys.executable, "-m", "flowherd_server", *address, *data, *more]


def server_environment() -> dict[str, str]:
    """Return this process's environment, extended so that files in the current directory are not imported.

    `python -m` would import a graphql.py or secrets.py beside the user's flows instead of the real one. Python 3.10
    does not know the variable.
    """
    return {**os.environ, "PYTHONSAFEPATH": "1"}
