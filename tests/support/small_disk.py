"""A small file system, to be filled up for real."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def mount(place: Path, size: str) -> str:
    """Make the directory `place` with a tmpfs of `size`, such as "4m". Returns why it cannot be mounted, or ""."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    return "" if done.returncode == 0 else done.stderr.strip() or "mount failed"


def unmount(place: Path) -> None:
    """Take it away, also if a file there is still open."""
    subprocess.run(["umount", "-l", str(place)], check=True)


@contextmanager
def mounted(place: Path, size: str) -> Iterator[Path]:
    """Have the file system in the block; skip the test where that is not permitted."""
    refused = mount(place, size)
    if refused:
        pytest.skip(f"cannot mount a file system: {refused}")
    try:
        yield place
    finally:
        unmount(place)


def fill_up(place: Path) -> Path:
    """Fill the file system, and return the file that fills it."""
    ballast = place / "ballast"
    with contextlib.suppress(OSError), ballast.open("ab", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    return ballast
