"""Which programs work at which level: the table in docs/reference/isolated-programs.md.

    python -m tests.acceptance.program_table

prints it; test_programs_at_levels.py holds it and the page true.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

#: What a flow asks for, by the heading of its column.
COLUMNS: Mapping[str, Mapping[str, str]] = {
    "none": {"level": "none"},
    "private": {"level": "private"},
    "sealed": {"level": "sealed"},
    "no network": {"level": "sealed", "network": "none"},
}
LEVELS = tuple(COLUMNS)


class Row(NamedTuple):
    """A check of programs_in_runs.py, and where it fails: levels of an ordinary user (O) and of root (R).

    Without a network, what fails is what fails in sealed runs, and what `fails` names besides.
    """

    name: str
    text: str
    fails: tuple[str, ...] = ()

    def works(self, who: str, level: str) -> bool:
        levels = {level, "sealed"} if level == "no network" else {level}
        return not any(f"{who} {one}" in self.fails for one in levels)


ROWS = (
    Row("fork", "`multiprocessing`, start method fork"),
    Row("spawn", ".. spawn"),
    Row("forkserver", ".. forkserver"),
    Row("manager", "`multiprocessing.Manager`"),
    Row("shared-memory", "`multiprocessing.shared_memory`"),
    Row("asyncio", "`asyncio` with child processes"),
    Row("packages", "numpy and pandas"),
    Row("matplotlib", "matplotlib, without a window"),
    Row("sqlite", "SQLite in WAL mode, two connections"),
    Row("shell", "bash with sub-shells, pipes, `<(...)`, here-strings, `mktemp`"),
    Row("pipe", "named pipes (`mkfifo`)"),
    Row("daemon", "a daemon of the run's own (`nohup`, `setsid`)"),
    Row("terminal", "a terminal of its own (`script`, expect)"),
    Row("processes", "`ps`, `top`"),
    Row("strace", "strace of its own children"),
    Row("temporary", "temporary files, files in `/dev/shm`"),
    Row("language", "locales and time zones"),
    Row("git", "`git init`, `commit`, `clone`"),
    Row("pip", "a virtual environment, and `pip install` of a package into it"),
    Row("tmux", "a tmux server of its own"),
    Row("ssh-agent", "an ssh-agent of its own"),
    Row("http", "an HTTP server on 127.0.0.1 and its client"),
    Row("localhost", "looking up `localhost`"),
    Row("server", "a server of the host on its loopback", ("O no network", "R no network")),
    Row("compiler", "gcc, and what it has compiled"),
    Row("child", "`nice`, and SIGTERM to a child process"),
    Row("home", "`git config --global`, SQLite in the home directory", ("O sealed", "R sealed")),
    Row("set-uid", "a set-uid program, as sudo is one", ("O private", "O sealed", "R sealed")),
    Row("chown", "`chown` to another user", ("O none", "O private", "O sealed", "R sealed")),
    Row("mount", "`mount`", ("O none", "O private", "O sealed", "R private", "R sealed")),
    Row("chromium", "Chromium with `--no-sandbox`"),
    Row("chromium-sandbox", "Chromium with its own sandbox", ("O sealed", "R none", "R private", "R sealed")),
    Row(
        "container",
        "`unshare` of user, mount and pid namespaces",
        ("O sealed", "R private", "R sealed"),
    ),
)
#: What takes seconds, or packages that have to be fetched.
SLOW = ("packages", "matplotlib", "pip", "chromium", "chromium-sandbox")


def table() -> Iterator[str]:
    """Yield the lines of the table."""
    columns = [(who, level) for who in "OR" for level in LEVELS]
    yield "| | ordinary user: " + " | ".join(LEVELS) + " | root: " + " | ".join(LEVELS) + " |"
    yield "| --- |" + " --- |" * len(columns)
    for row in ROWS:
        words = ["yes" if row.works(who, level) else "**no**" for who, level in columns]
        yield f"| {row.text} | {' | '.join(words)} |"


if __name__ == "__main__":
    print("\n".join(table()))
