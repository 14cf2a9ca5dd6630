"""`python -m flowherd_server`: runs the embedded server. `flowherd server` and `flowherd start` start it like this.

With a command, `backup` or `check`, it does that instead.

Settings that have no option come from flowherd's usual sources. The token must not be an option, because every user of
the host can read a process's arguments: it comes from FLOWHERD__SERVER__TOKEN or the configuration file.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from loguru import logger

from flowherd.config import LoadedSettings, load_settings
from flowherd.config.reload_report import SettingsSource
from flowherd.errors import ConfigurationError
from flowherd.line_writer import STANDARD_ERROR
from flowherd.log_format import SHOWN, add_shown
from flowherd.shown_text import one_line
from flowherd.signals import hold_request_signals
from flowherd.standard_streams import open_missing_streams
from flowherd_server import maintenance
from flowherd_server.errors import DatabaseLost, DatabaseUnusable

#: Exit code if the settings cannot be used: EX_CONFIG of sysexits.h.
BAD_CONFIGURATION = 78
#: Exit code if the database cannot be opened now, because the disk is full for example: EX_TEMPFAIL of sysexits.h.
DATABASE_UNUSABLE = 75
#: Exit code if the database was deleted or replaced while the server was running: EX_IOERR of sysexits.h.
DATABASE_LOST = 74
#: Exit code after Ctrl-C (128 + SIGINT), as shells have it.
INTERRUPTED = 130

_LOG_FORMAT = "{time:YYYY-MM-DD HH:mm:ss.SSS} {level: <8} " + SHOWN


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until the server is stopped. Returns the exit code."""
    open_missing_streams()
    logger.remove()
    # Never waits for a reader: beside an agent, this is the agent's standard error. Tracebacks without the values of
    # variables, which may be secrets.
    logger.configure(patcher=add_shown)
    sink = STANDARD_ERROR.write_lines
    logger.add(sink, level="INFO", format=lambda _record: _LOG_FORMAT, backtrace=False, diagnose=False)
    given = _parser().parse_args(arguments)
    try:
        return _carry_out(given)
    except ConfigurationError as error:
        STANDARD_ERROR.write_lines(one_line(f"flowherd server: {error}") + "\n")
        return int(given.bad_configuration_exit_code)
    except DatabaseUnusable as error:
        STANDARD_ERROR.write_lines(one_line(f"flowherd server: {error}") + "\n")
        return DATABASE_UNUSABLE
    except DatabaseLost as error:
        text = "nothing was written since. Start the server again to have it use what is there now"
        STANDARD_ERROR.write_lines(one_line(f"flowherd server: {error}; {text}") + "\n")
        STANDARD_ERROR.flush()
        os._exit(DATABASE_LOST)  # without SQLite's end, which would delete files by their names
    except KeyboardInterrupt:  # before the server handles signals itself
        return INTERRUPTED


def _carry_out(given: argparse.Namespace) -> int:
    if given.command is None:
        hold_request_signals()
    loaded = _settings(given)
    if given.command == "backup":
        return maintenance.back_up(loaded.paths.data_dir, given.file, force=given.force)
    if given.command == "check":
        return maintenance.check(loaded.paths.data_dir, as_json=given.as_json)
    from flowherd_server.serve import ServerOptions, run  # the other commands need nothing of it

    source = SettingsSource(read=functools.partial(_settings, given), at_start=loaded)
    run(ServerOptions.from_settings(source, stop_with_parent=given.stop_with_parent))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m flowherd_server", description="flowherd's embedded server")
    parser.add_argument("--host", help="address to listen on")
    parser.add_argument("--port", type=int, help="port to listen on; 0 picks a free one")
    parser.add_argument("--data-dir", type=Path, help="directory of the database")
    parser.add_argument("--home", type=Path, help="flowherd's home directory")
    parser.add_argument("--stop-with-parent", action="store_true", help="stop when standard input is closed")
    parser.add_argument(
        "--bad-configuration-exit-code",
        type=int,
        default=BAD_CONFIGURATION,
        metavar="CODE",
        help="exit code if the settings cannot be used (default: %(default)s)",
    )
    maintenance.add_commands(parser)
    return parser


def _settings(given: argparse.Namespace) -> LoadedSettings:
    overrides = {
        "server.bind": given.host,
        "server.bind_port": given.port,
        "server.data_dir": None if given.data_dir is None else str(given.data_dir),
        "home": None if given.home is None else str(given.home),
    }
    names = {"server.bind": "--host", "server.bind_port": "--port", "server.data_dir": "--data-dir", "home": "--home"}
    return load_settings(overrides, argument_names=names)


if __name__ == "__main__":
    sys.exit(main())
