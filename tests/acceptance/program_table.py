"""Which programs work at which level: the table in docs/reference/isolated-programs.md.

    python -m tests.acceptance.program_table

prints it; test_programs_at_levels.py holds it and the page true.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

LEVELS = ("none", "private", "sealed")


class Row(NamedTuple):
    """A check of programs_in_runs.py, and where it fails: levels of an ordinary user (O) and of root (R)."""

    name: str
    text: str
    fails: tuple[str, ...] = ()

    def works(self, who: str, level: str) -> bool:
        return f"{who} {level}" not in self.fails


ROWS = (
    Row("fork", "`multiprocessing`, start method fork"),
    Row("spawn", ".. spawn"),
    Row("forkserver", ".. forkserver"),
    Row("manager", "`multiprocessing.Manager`"),
    Row("shared-memory", "`multiprocessing.shared_memory`"),
    Row("asyncio", "`asyncio` with child processes"),
    Row("packages", "numpy and pandas"),
    Row("sqlite", "SQLite in WAL mode, two connections"),
    Row("shell", "bash with sub-shells, pipes, `<(...)`, here-strings, `mktemp`"),
    Row("git", "`git init`, `commit`, `clone`"),
    Row("pip", "a virtual environment, and `pip install` of a package into it"),
    Row("tmux", "a tmux server of its own"),
    Row("ssh-agent", "an ssh-agent of its own"),
    Row("http", "an HTTP server on 127.0.0.1 and its client"),
    Row("compiler", "gcc, and what it has compiled"),
    Row("child", "`nice`, and SIGTERM to a child process"),
    Row("home", "`git config --global`, SQLite in the home directory", ("O sealed", "R sealed")),
    Row("set-uid", "a set-uid program, as sudo is one", ("O private", "O sealed", "R sealed")),
    Row("chown", "`chown` to another user", ("O none", "O private", "O sealed", "R sealed")),
    Row("mount", "`mount`", ("O none", "O private", "O sealed", "R private", "R sealed")),
    Row(
        "container",
        "`unshare` of user, mount and pid namespaces, as containers have",
        ("O sealed", "R private", "R sealed"),
    ),
)
#: What takes seconds, or packages that have to be fetched.
SLOW = ("packages", "pip")


def table() -> Iterator[str]:
    """Yield the lines of the table."""
    columns = [(who, level) for who in "OR" for level in LEVELS]
    yield "| | ordinary user: none | private | sealed | root: none | private | sealed |"
    yield "| --- |" + " --- |" * len(columns)
    for row in ROWS:
        words = ["yes" if row.works(who, level) else "**no**" for who, level in columns]
        yield f"| {row.text} | {' | '.join(words)} |"


if __name__ == "__main__":
    print("\n".join(table()))
