"""Makes pictures of the terminal, docs/pictures/*.svg, from what real commands print.

    python docs/draw_terminal.py [DIRECTORY]

It starts an agent with its embedded server in a temporary home, registers and starts flows, runs the commands of
PICTURES in a terminal of a fixed size and draws what they print. Times, ids and process ids differ each time, so a
picture is made anew only when it is no longer like the program. Flows and agent have no label of this host, and the
temporary home is shown as `~`; a picture with the name of the host or of the user in it is refused.
"""

from __future__ import annotations

import fcntl
import getpass
import io
import os
import pty
import re
import shlex
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

PLACE = Path(__file__).with_name("pictures")
_READY_S = 30.0
#: What stands before a command, as on a reader's screen.
_PROMPT = "$ "
#: Height of the bar that rich draws above a terminal and that is left out here, px.
_TITLE_BAR = 32


@dataclass(frozen=True)
class Picture:
    """A terminal with commands that are typed one after another."""

    name: str
    commands: tuple[str, ...]
    columns: int = 100
    rows: int = 24


#: Commands that make what the pictures show. They are run first, and not shown.
STAGE = (
    "register nightly-backup --any-host --cron '30 2 * * *' --timezone Europe/Berlin --command -- "
    "sh -c 'echo backing up {target}; echo the disk is full >&2; exit 3'",
    "register import-orders --any-host --command -- sh -c 'echo importing {day}; exec sleep 100'",
    "register report --any-host --interval 15m --command -- sh -c 'echo 1204 orders; echo 3 complaints'",
    "register train-model --any-host -l gpu --command -- true",
    "run report --run-name by-hand --wait",
    "run nightly-backup --run-name friday -p target=orders --wait",
    "run nightly-backup --run-name again -p target=orders --wait",
    "run import-orders --run-name monday -p day=monday",
    "run import-orders --run-name tuesday -p day=tuesday",
    "run train-model --run-name larger --at 2026-01-31T08:00 --late",
)
PICTURES = (
    Picture("run", ("flowherd run report --run-name noon --wait",)),
    Picture("ps", ("flowherd ps",)),
    Picture("explain", ("flowherd explain friday",)),
    Picture("schedules", ("flowherd schedule ls", "flowherd schedule next nightly-backup -n 3")),
)

_DARK = [(72, 79, 88), (255, 123, 114), (63, 185, 80), (210, 153, 34), (88, 166, 255), (188, 140, 255), (57, 197, 207)]
_THEME = TerminalTheme((13, 17, 23), (230, 237, 243), [*_DARK, (177, 186, 196)], [*_DARK, (255, 255, 255)])
#: rich's own picture loads a font from another host; this one uses what the reader's system has.
_FORMAT = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" width="{width}" height="{height}" \
xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{
  font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", "Liberation Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width; white-space: pre;
}}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
<rect fill="#0d1117" y="32" width="{width}" height="{height}"/>
<g transform="translate(9, 41)" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


@contextmanager
def running_agent(home: Path) -> Iterator[dict[str, str]]:
    """Run an agent with its server; yield the environment of commands for it. Raises RuntimeError if it fails."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FLOWHERD", "PREFECT"))}
    environ = {**kept, "HOME": str(home), "FLOWHERD__SERVER__BIND_PORT": "0", "TZ": "UTC", "TERM": "xterm-256color"}
    environ["COLORTERM"] = ""
    flowherd = [sys.executable, "-m", "flowherd"]
    log = home / "agent.log"
    start = [*flowherd, "start", "--no-hostname-label", "--limit", "8"]
    with log.open("wb") as file:
        agent = subprocess.Popen(start, env=environ, cwd=home, stdout=file, stderr=file)
    try:
        deadline_s = time.monotonic() + _READY_S
        while "waiting for flow runs" not in log.read_text():
            if agent.poll() is not None or time.monotonic() > deadline_s:
                raise RuntimeError(f"the agent is not ready:\n{log.read_text()}")
            time.sleep(0.1)
        yield environ
    finally:
        agent.terminate()  # with its own server, this ends the runs
        agent.wait()


def prepare(environ: dict[str, str], home: Path) -> None:
    """Run the commands of the stage."""
    for command in STAGE:
        words = [sys.executable, "-m", "flowherd", *shlex.split(command)]
        subprocess.run(words, env=environ, cwd=home, capture_output=True, check=False)


def printed(command: str, environ: dict[str, str], home: Path, picture: Picture) -> str:
    """Run a command in a terminal of the picture's size; return all that it prints there."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", picture.rows, picture.columns, 0, 0))
    program, *arguments = shlex.split(command)
    assert program == "flowherd"
    process = subprocess.Popen(
        [sys.executable, "-m", "flowherd", *arguments],
        env=environ,
        cwd=home,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    chunks = []
    while chunk := _read(ours):
        chunks.append(chunk)
    os.close(ours)
    process.wait()
    return b"".join(chunks).decode().replace("\r\n", "\n")


def _read(terminal: int) -> bytes:
    """Read what has been printed; nothing once the program has closed the terminal (EIO)."""
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""


def drawing(picture: Picture, outputs: list[str]) -> str:
    """Return the terminal as SVG."""
    console = Console(width=picture.columns, record=True, file=io.StringIO(), force_terminal=True)
    for command, output in zip(picture.commands, outputs, strict=True):
        console.print(Text.assemble((_PROMPT, "green"), (command, "bold")))
        for line in output.rstrip("\n").split("\n"):
            text = Text.from_ansi(line)
            for part in text.divide(range(picture.columns, len(text), picture.columns)):
                console.print(part, soft_wrap=True)
    found = console.export_svg(theme=_THEME, code_format=_FORMAT, unique_id=picture.name)
    return re.sub(r'viewBox="0 0 ([\d.]+) ([\d.]+)" width="\S+" height="\S+"', _without_title_bar, found, count=1)


def _without_title_bar(size: re.Match[str]) -> str:
    width, height = float(size[1]), float(size[2]) - _TITLE_BAR
    return f'viewBox="0 {_TITLE_BAR} {width:g} {height:g}" width="{width:g}" height="{height:g}"'


def names_of_this_machine() -> set[str]:
    """Return what must not be in a picture."""
    return {
        socket.gethostname(),
        getpass.getuser(),
        str(Path.home()),
        str(Path.cwd()),
        sys.prefix,
        tempfile.gettempdir(),
    }


def main() -> None:
    """Make all pictures."""
    place = Path(sys.argv[1]) if sys.argv[1:] else PLACE
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory) / "home"
        home.mkdir()
        with running_agent(home) as environ:
            prepare(environ, home)
            for picture in PICTURES:
                texts = [printed(command, environ, home, picture) for command in picture.commands]
                texts = [text.replace(str(home), "~") for text in texts]
                found = [
                    name for name in names_of_this_machine() if re.search(rf"\b{re.escape(name)}\b", "".join(texts))
                ]
                if found:
                    sys.exit(f"{picture.name}.svg would show {', '.join(found)}:\n{''.join(texts)}")
                (place / f"{picture.name}.svg").write_text(drawing(picture, texts), encoding="utf-8")


if __name__ == "__main__":
    main()
