"""A fork server takes the holes in its heap, so that runs do not allocate in them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from flowherd_runner import PACKAGE_DIRECTORY

#: Makes holes of a size that the interpreter leaves to the C library, and prints what is free in them before and after.
PROGRAM = """
import ctypes
from flowherd_runner.heap_holes import Info, fill_holes, free_bytes
info = getattr(ctypes.CDLL(None), "mallinfo2", None)
if info is not None:
    info.restype = Info
    blocks = [bytes(3000) for _ in range(400)]
    del blocks[::2]
    before = free_bytes(info())
    fill_holes()
    print(before, free_bytes(info()))
"""


def test_what_is_free_between_blocks_is_taken() -> None:
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={"PYTHONPATH": str(PACKAGE_DIRECTORY) + "/.."},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    if not found:
        pytest.skip("this C library does not say what is free")
    before, after = map(int, found)
    assert before > 500_000
    assert after < before / 10
