"""`python -m flowherd_server`: the embedded server by itself, as `flowherd start` brings it up beside an agent.

The token is never an argument: it comes from FLOWHERD__SERVER__TOKEN or the configuration file.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from loguru import logger

from flowherd.config import load_settings
from flowherd.errors import ConfigurationError
from flowherd_server.main import ServerOptions, run

#: Exit code for settings that cannot be used, as sysexits.h has it.
BAD_CONFIGURATION = 78
#: Exit code after Ctrl-C (128 + SIGINT), as shells have it.
INTERRUPTED = 130

_LOG_FORMAT = "{time:YYYY-MM-DD HH:mm:ss.SSS} {level: <8} {message}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop; the exit code."""
    logger.remove()
    # Without the values of variables, which may be a secret.
    logger.add(sys.stderr, level="INFO", format=_LOG_FORMAT, backtrace=False, diagnose=False)
    given = _parser().parse_args(arguments)
    try:
        run(_options(given))
    except ConfigurationError as error:
        print(f"flowherd server: {error}", file=sys.stderr)
        return int(given.bad_configuration_code)
    except KeyboardInterrupt:  # before the server handles signals itself
        return INTERRUPTED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m flowherd_server", description="flowherd's embedded server")
    parser.add_argument("--host", help="address to listen on")
    parser.add_argument("--port", type=int, help="port to listen on; 0 picks a free one")
    parser.add_argument("--data-dir", type=Path, help="where the database is kept")
    parser.add_argument("--home", type=Path, help="flowherd's home directory")
    code = "exit code if a setting cannot be used (default: %(default)s)"
    parser.add_argument("--bad-configuration-code", type=int, metavar="CODE", default=BAD_CONFIGURATION, help=code)
    parser.add_argument("--stop-with-parent", action="store_true", help="stop when standard input ends")
    return parser


def _options(given: argparse.Namespace) -> ServerOptions:
    overrides = {
        "server.bind": given.host,
        "server.bind_port": given.port,
        "server.data_dir": None if given.data_dir is None else str(given.data_dir),
        "home": None if given.home is None else str(given.home),
    }
    return ServerOptions.from_settings(load_settings(overrides), stop_with_parent=given.stop_with_parent)


if __name__ == "__main__":
    sys.exit(main())
