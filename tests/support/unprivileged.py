"""An unprivileged user and a set-uid program, for tests of what may not be signalled or removed. Both need root."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

#: The user `nobody`, which no test runs as otherwise.
NOBODY = 65534

_SOURCE = """
/* Becomes its owner for good, as sudo does, and runs its arguments. */
#define _GNU_SOURCE
#include <grp.h>
#include <unistd.h>
int main(int count, char **arguments) {
    (void)count;
    if (setgroups(0, 0) || setresgid(0, 0, 0) || setresuid(0, 0, 0)) return 126;
    execvp(arguments[1], arguments + 1);
    return 127;
}
"""

#: Starts a program as `nobody`. It may still read everything, because the tests' interpreter can be in a directory
#: of root's own; it may not write and not signal what is not its own.
AS_NOBODY = (
    "setpriv",
    f"--reuid={NOBODY}",
    f"--regid={NOBODY}",
    "--clear-groups",
    "--inh-caps=+dac_read_search",
    "--ambient-caps=+dac_read_search",
)

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user and make set-uid files")
needs_setpriv = pytest.mark.skipif(
    subprocess.run([*AS_NOBODY, "true"], capture_output=True, check=False).returncode != 0
    if os.geteuid() == 0 and shutil.which("setpriv")
    else True,
    reason="setpriv cannot start programs as nobody here",
)
needs_compiler = pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc")


@contextmanager
def reachable_directory() -> Iterator[Path]:
    """Make a directory that every user can reach, and remove it at the end.

    pytest's own are no such: each session that begins closes the directory of all sessions to other users.
    """
    with tempfile.TemporaryDirectory(prefix="flowherd-") as name:
        directory = Path(name)
        directory.chmod(0o711)
        yield directory


def set_uid_program(directory: Path) -> Path:
    """Compile a program in `directory` that becomes root for every user who starts it; all can reach it."""
    program = directory / "like-sudo"
    (directory / "like-sudo.c").write_text(_SOURCE)
    subprocess.run(["gcc", "-O0", "-o", program, directory / "like-sudo.c"], check=True)
    program.chmod(0o4755)
    done = subprocess.run([program, "id", "-u"], user=NOBODY, group=NOBODY, capture_output=True, text=True, check=False)
    if done.stdout.strip() != "0":
        pytest.skip(f"set-uid programs do not work in {directory} (mounted with nosuid?)")
    return program
