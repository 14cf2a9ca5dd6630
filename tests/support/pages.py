"""Runs the commands of a page of docs/ as a reader would paste them, and compares what they print with the page.

    python -m tests.support.pages docs/how-to/uninstall.md ...     run pages and print what differs

Blocks of a page that are marked `sh` are run by one bash, in their order; a command that fails ends it, except in
blocks that print an exit code. Blocks marked `text` show lines of the output of the commands before them, in their
order and perhaps with others between them; ids, numbers and the widths of gaps may differ, and `...` is any text. A
block after "Save this as `NAME`" becomes that file. All other blocks are not run. Pages that do not start an agent are
for readers who have one, so one is started before them, with its embedded server, and drained at the end.

The directories that a page names (`STAND_INS`) are replaced by directories of the test, and the code of this checkout
is what `pip install` installs.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from tests.support.commands import command_words

DOCS = Path(__file__).resolve().parents[2] / "docs"
#: Directories that belong to the reader's host; each becomes one of the test's.
STAND_INS = ("/tmp/herd", "/opt/flowherd", "/var/backups", "/srv", "/etc/supervisor")
#: Parts of a line that differ from one execution to the next.
_CHANGING = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|\d+(\.\d+)?")
_BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"Save this as `([\w.-]+)`(?:(?!```).)*```\w+\n(.*?)```", re.DOTALL)
_INSTALL = re.compile(r"python3 -m venv (\S+) && \S+/pip install .*")
_UPGRADE = re.compile(r"\S+/pip install .*")
_START = "flowherd start > ~/agent.log 2>&1 &\nuntil flowherd status > ~/status.txt 2>&1; do sleep 0.2; done"
_DRAIN = "flowherd drain --wait"
_MARK = "@@ block {} is done"
_TIMEOUT_S = 120
#: How long a drained agent's server may take to end.
_LAST_MOMENTS_S = 10.0


@dataclass(frozen=True)
class Block:
    """Commands of a page, with the lines that it shows of their output."""

    page: str
    commands: str
    shown: tuple[str, ...]


def blocks(page: Path) -> list[Block]:
    """Return the blocks of commands of a page."""
    name = str(page.relative_to(DOCS))
    found: list[Block] = []
    for indent, language, text in _BLOCK.findall(page.read_text(encoding="utf-8")):
        lines = [line.removeprefix(indent) for line in text.splitlines()]
        if language == "sh":
            found.append(Block(name, "\n".join(lines), ()))
        elif language == "text" and found:
            found[-1] = replace(found[-1], shown=(*found[-1].shown, *filter(None, lines)))
    return found


def files(page: Path) -> dict[str, str]:
    """Return the files that the page has its reader save, by name."""
    return dict(_FILE.findall(page.read_text(encoding="utf-8")))


def differences(pages: Sequence[Path], place: Path) -> str:
    """Run the commands of pages; return what failed or differed, and an empty text if nothing did.

    `place` is an empty directory, which becomes the home and holds the stand-ins; processes that were started in it are
    ended, and count as a difference if the pages have left them.
    """
    parts = [part for page in pages for part in blocks(page)]
    work = _made(place / "work")
    for name, text in [file for page in pages for file in files(page).items()]:
        (work / name).write_text(text, encoding="utf-8")
    process = subprocess.Popen(
        ["bash", "-c", _script(parts, place)],
        cwd=work,
        env=_environment(place),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        output, _ = process.communicate(timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        output = f"{process.communicate()[0]}\nnot finished after {_TIMEOUT_S} seconds"
    left = _end_what_is_left(place, 0 if process.returncode else _LAST_MOMENTS_S)
    for name in STAND_INS:
        output = output.replace(_stand_in(place, name), name)
    output = output.replace(str(place / "home"), "~")
    found = list(_compared(parts, output))
    if process.returncode and not found:
        found = ["a command failed"]
    if left:
        found.append(f"left running: {left}")
    return "\n".join([*found, output]) if found else ""


def _script(parts: Sequence[Block], place: Path) -> str:
    text = "\n".join(_until_failed(part, shlex.quote(_MARK.format(n))) for n, part in enumerate(parts))
    if "flowherd start" not in text:
        text = f"{_START}\n{text}"
    if "flowherd drain" not in text:
        text = f"{text}\n{_DRAIN}"
    for name in STAND_INS:
        text = re.sub(rf"(?<![\w/.]){name}\b", _stand_in(place, name), text)
    program = place / "bin" / "flowherd"
    text = _INSTALL.sub(
        rf"{sys.executable} -m venv --without-pip \1 && install -m 755 {program} \1/bin/flowherd && touch \1/bin/pip",
        text,
    )
    return _UPGRADE.sub("true", text)


def _until_failed(part: Block, mark: str) -> str:
    """Return commands that end the shell if one of them fails, except where the page prints an exit code."""
    return f"set {'+' if '$?' in part.commands else '-'}e\n{part.commands}\necho {mark}"


def _environment(place: Path) -> dict[str, str]:
    """Return the environment of a reader whose home is new and whose `flowherd` is this checkout's."""
    binaries = _made(place / "bin")
    program = binaries / "flowherd"
    program.write_text(f'#!/bin/sh\nexec {command_words()} "$@"\n')
    program.chmod(0o755)
    for name in STAND_INS:
        if name != "/tmp/herd":  # which the tutorial makes
            _made(Path(_stand_in(place, name)))
    inherited = {name: value for name, value in os.environ.items() if name != "FLOWHERD_HOME"}
    port = {"FLOWHERD__SERVER__BIND_PORT": "0"}
    path = f"{binaries}:{inherited['PATH']}"
    return {**inherited, "HOME": str(_made(place / "home")), "PATH": path, "TZ": "UTC", **port}


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def _stand_in(place: Path, name: str) -> str:
    return f"{place}/stands-for{name}"


def _compared(parts: Sequence[Block], output: str) -> Iterator[str]:
    """Yield what differs: the first block that was not finished, and shown lines that were not printed."""
    for number, part in enumerate(parts):
        printed, mark, output = output.partition(_MARK.format(number) + "\n")
        lines = iter([_normalised(line) for line in printed.splitlines()])
        missing = next((line for line in part.shown if not _is_in(line, lines)), None)
        if not mark:
            yield f"{part.page}: failed in {part.commands!r}"
            return
        if missing is not None:
            yield f"{part.page}: not printed, or not in this order: {missing!r}"


def _is_in(shown: str, lines: Iterator[str]) -> bool:
    """Advance to the line that a page shows; return whether there is one."""
    pattern = ".*".join(map(re.escape, _normalised(shown).split("...")))
    return any(re.fullmatch(pattern, line) for line in lines)


def _normalised(line: str) -> str:
    return " ".join(_CHANGING.sub("#", line).split())


def _end_what_is_left(place: Path, patience_s: float) -> list[str]:
    """Kill the processes with a home in `place` that do not end by themselves in time; return their commands."""
    deadline = time.monotonic() + patience_s
    while _processes_of(place) and time.monotonic() < deadline:
        time.sleep(0.05)
    left = _processes_of(place)
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()
    return [" ".join(process.info["cmdline"] or []) for process in left]


def _processes_of(place: Path) -> list[psutil.Process]:
    home = str(place / "home")
    return [
        process
        for process in psutil.process_iter(["environ", "cmdline", "status"])
        if (process.info["environ"] or {}).get("HOME") == home and process.info["status"] != psutil.STATUS_ZOMBIE
    ]


def main() -> None:
    """Run the pages that are named, and print what differs."""
    found = []
    for name in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as place:
            found.append(differences([Path(name).resolve()], Path(place)))
    sys.exit("\n".join(filter(None, found)) or 0)


if __name__ == "__main__":
    main()
