"""Damages to files and JSON documents, for hypothesis, and the number of examples of a fuzz test."""

from __future__ import annotations

import json
import operator
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st


def fuzz(examples: int) -> settings:
    """Set the number of examples of the usual run; FLOWHERD_FUZZ multiplies it."""
    return settings(
        max_examples=examples * int(os.environ.get("FLOWHERD_FUZZ", "1")),
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize="FLOWHERD_FUZZ" not in os.environ,
        print_blob=True,
    )


#: Values of kinds that a program does not expect.
STRANGE_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, 1, -1, 2**22, 2**31, 2**63, 10**30, -(10**30), 0.5, 1e308, -0.0]),
    st.sampled_from(["", "x", "\x00", "a\x00b", "../../x", "/etc/passwd", "\ud800", "1", "NaN", "é" * 1000, "${HOME}"]),
    st.sampled_from([[], {}, [[]], {"": {}}, [None], {"a": None}, [1, "x"], {"contract": 99}]),
    st.recursive(st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3), max_leaves=5),
)


def _paths(document: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner: Any = document.items() if isinstance(document, dict) else enumerate(document)
    found = [here]
    if isinstance(document, (dict, list)):
        for key, value in inner:
            found += _paths(value, (*here, key)) if isinstance(value, (dict, list)) else [(*here, key)]
    return found


def _replaced(document: Any, path: tuple[Any, ...], change: Callable[[dict[Any, Any] | list[Any], Any], None]) -> Any:
    copy = json.loads(json.dumps(document))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    change(inner, path[-1])
    return copy


def _put(value: Any, inner: dict[Any, Any] | list[Any], key: Any) -> None:
    inner[key] = value


@st.composite
def mutated(draw: st.DrawFn, document: Any) -> Any:
    """Draw `document` with one or two of its values removed, or replaced by something strange."""
    for _ in range(draw(st.integers(1, 2))):
        paths = _paths(document)
        path = draw(st.sampled_from(paths))
        if not path:
            return draw(STRANGE_VALUES)
        if draw(st.integers(0, 3)) == 0:
            document = _replaced(document, path, operator.delitem)
        else:
            value = draw(STRANGE_VALUES)
            document = _replaced(document, path, partial(_put, value))
        if not isinstance(document, (dict, list)) or not document:
            break
    return document


#: Texts that are not JSON, or JSON that no program of ours writes.
RAW_TEXTS = st.one_of(
    st.sampled_from(
        [
            b"",
            b"{",
            b"null",
            b"[]",
            b"{}",
            b'"x"',
            b"\xff\xfe\x00",
            b"[" * 3_000,
            b'{"a":' * 1_500,
            b'{"contract": 1e999}',
            b'{"contract": NaN}',
            b"1" * 5000,
            b"\x00" * 4096,
        ]
    ),
    st.binary(max_size=200),
)


@st.composite
def damaged_bytes(draw: st.DrawFn, data: bytes) -> bytes:
    """Draw `data` cut off, with flipped bits, with something appended, or something else."""
    kind = draw(st.integers(0, 3))
    if kind == 0 and data:
        return data[: draw(st.integers(0, len(data) - 1))]
    if kind == 1 and data:
        flipped = bytearray(data)
        for _ in range(draw(st.integers(1, 8))):
            flipped[draw(st.integers(0, len(data) - 1))] ^= 1 << draw(st.integers(0, 7))
        return bytes(flipped)
    extra = draw(RAW_TEXTS)
    return extra if kind == 2 else data + extra


#: What can be in the place of a file.
IN_PLACE_OF_A_FILE = st.sampled_from(["missing", "directory", "link out", "link nowhere", "link to itself", "pipe"])


def put_in_place(path: Path, what: str, outside: Path) -> None:
    """Replace `path` by one of IN_PLACE_OF_A_FILE; links lead to the file `outside`."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif os.path.lexists(path):
        path.unlink()
    if what == "directory":
        (path / "in it").mkdir(parents=True)
        (path / "in it" / "file").write_text("x")
    elif what == "link out":
        path.symlink_to(outside)
    elif what == "link nowhere":
        path.symlink_to(outside.parent / "nothing" / "here")
    elif what == "link to itself":
        path.symlink_to(path.name)
    elif what == "pipe":
        os.mkfifo(path)
