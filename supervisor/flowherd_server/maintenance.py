"""`python -m flowherd_server backup` and `check`: what can be done with a database beside serving it."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path

from flowherd.errors import ConfigurationError
from flowherd.line_writer import STANDARD_ERROR
from flowherd.shown_text import one_line
from flowherd_server.store.check_database import Report, check_database
from flowherd_server.store.copy_database import Progress, copy_database, megabytes
from flowherd_server.store.database import FILE_NAME

#: Exit code of `check` if it found a problem.
PROBLEMS = 1
#: Pause between two lines that say that a check is still going, seconds.
_STILL_S = 10.0


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Add the commands; without one of them the program serves."""
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    backup = commands.add_parser("backup", help="copy the database to a file")
    backup.add_argument("file", type=Path, metavar="FILE")
    backup.add_argument("--force", action="store_true", help="replace FILE")
    check = commands.add_parser("check", help="check the database")
    check.add_argument("--json", action="store_true", dest="as_json", help="print one JSON object")


def back_up(data_dir: Path, target: Path, *, force: bool) -> int:
    """Copy the database of `data_dir` to `target`, also while a server uses it. Returns the exit code.

    Raises ConfigurationError if there is no database, if `target` exists and `force` is not given, or if it cannot be
    written.
    """
    source = data_dir / FILE_NAME
    if not source.is_file():
        raise ConfigurationError(f"there is no database {source} to copy; name its directory with --data-dir")
    target = target.absolute()
    if target.is_dir():
        raise ConfigurationError(f"{target} is a directory; name a file in it")
    if target.exists() and target.samefile(source):
        raise ConfigurationError(f"{target} is the database itself; name another file")
    if (target.exists() or target.is_symlink()) and not force:
        raise ConfigurationError(f"{target} exists; name another file, or replace it with --force")
    copy_database(source, target, Progress(_report_copying), thorough=True)
    print(one_line(f"{source} is copied to {target} ({megabytes(target.stat().st_size)}, checked)"))
    return 0


def check(data_dir: Path, *, as_json: bool) -> int:
    """Check the database of `data_dir`, also while a server uses it, and print what was found. Returns the exit code.

    Raises ConfigurationError if there is no database, or if it cannot be read.
    """
    began_s = said_s = time.monotonic()

    def still_working() -> None:
        nonlocal said_s
        now_s = time.monotonic()
        if now_s - said_s >= _STILL_S:
            said_s = now_s
            STANDARD_ERROR.write_lines(f"still checking after {now_s - began_s:.0f} s\n")

    report = check_database(data_dir / FILE_NAME, still_working)
    if as_json:
        checks = [{"check": each.check, "ok": each.ok, "problems": each.problems} for each in report.checks]
        print(json.dumps({"ok": report.ok, **asdict(report), "checks": checks}))
    else:
        print(*map(one_line, _lines(report)), sep="\n")
    return 0 if report.ok else PROBLEMS


def _lines(report: Report) -> list[str]:
    sizes = report.sizes
    lines = [f"database    {report.database}, layout {report.layout}"]
    for each in report.checks:
        lines.append(f"{each.check:<11} {'ok' if each.ok else each.problems[0]}")
        lines.extend(f"{'':<11} {problem}" for problem in each.problems[1:])
    lines.append(
        f"size        {megabytes(sizes['file'])}, of which {megabytes(sizes['free'])} are free; "
        f"write-ahead log {megabytes(sizes['write_ahead_log'])}"
    )
    lines.append("rows        " + ", ".join(f"{name} {count:,}" for name, count in report.rows.items()))
    if not report.ok:
        lines.append(
            "There are problems. Keep a copy of the file (`flowherd server backup`), and see docs/how-to/"
            "back-up-the-server.md"
        )
    return lines


def _report_copying(share: float, rest_s: float) -> None:
    STANDARD_ERROR.write_lines(f"copying: {share * 100:.0f} %, about {rest_s:.0f} s left\n")
