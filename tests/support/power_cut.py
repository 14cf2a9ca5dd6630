"""What a power cut leaves of a directory: replays the file operations that strace(1) has recorded, cut at any point.

A file system may lose what was not flushed, and keep it as well. A flush of a file (fsync(2), fdatasync(2)) keeps its
content, that of a directory keeps its names, and nothing keeps anything else. A rename(2) happens or does not.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

#: Arguments for strace: the calls that change files, with the files of descriptors, each thread in a file of its own.
STRACE = [
    "-ff",
    "-ttt",
    "-y",
    "-s",
    "1000000",
    "-e",
    "signal=none",
    "-e",
    "trace=open,openat,creat,write,pwrite64,ftruncate,rename,renameat,renameat2,unlink,unlinkat,rmdir,mkdir,mkdirat,"
    "fsync,fdatasync,fallocate",
]

_CALL = re.compile(r"^(?P<at>\d+\.\d+) (?P<name>\w+)\((?P<arguments>.*)\)\s+= (?P<result>\d+)")
_DESCRIPTOR = re.compile(r"^(?:-?\d+|AT_FDCWD)<(?P<path>.*)>$")


@dataclass(frozen=True)
class Call:
    """One successful call; `path` and `other` are absolute."""

    name: str
    path: PurePosixPath
    other: PurePosixPath | None = None
    data: bytes = b""
    number: int = 0
    flags: str = ""


@dataclass
class File:
    """A regular file: its content, and what a flush has kept of it."""

    content: bytes = b""
    flushed: bytes = b""

    def flush(self) -> None:
        self.flushed = self.content


@dataclass
class Directory:
    """A directory: its entries, and what a flush has kept of them."""

    entries: dict[str, File | Directory] = field(default_factory=dict)
    flushed: dict[str, File | Directory] = field(default_factory=dict)

    def flush(self) -> None:
        self.flushed = dict(self.entries)


#: What a power cut leaves, by name: which names, and which content.
Entries = Callable[[Directory], Mapping[str, "File | Directory"]]
Content = Callable[[File], bytes]
CUTS: Mapping[str, tuple[Entries, Content]] = {
    "everything": (lambda one: one.entries, lambda one: one.content),
    "only what was flushed": (lambda one: one.flushed, lambda one: one.flushed),
    "names without content": (lambda one: one.entries, lambda one: one.flushed),
    "content without names": (lambda one: one.flushed, lambda one: one.content),
}


def read_calls(prefix: Path) -> list[Call]:
    """Return the calls of all threads that strace has written to files beginning with `prefix`, by time."""
    found = []
    for path in prefix.parent.glob(f"{prefix.name}.*"):
        for line in path.read_text(errors="replace").splitlines():
            match = _CALL.match(line)
            if match and (call := _call(match["name"], match["arguments"], int(match["result"]))) is not None:
                found.append((float(match["at"]), call))
    return [call for _, call in sorted(found, key=lambda one: one[0])]


def _call(name: str, text: str, result: int) -> Call | None:
    arguments = list(_arguments(text))
    if name in ("open", "openat", "creat"):
        base, rest = (arguments[0], arguments[1:]) if name == "openat" else ("", arguments)
        return Call("open", _path(base, rest[0]), flags=rest[1] if name != "creat" else "O_CREAT|O_TRUNC")
    if name in ("write", "pwrite64"):
        return Call("write", _path(arguments[0]), data=_bytes(arguments[1])[:result])
    if name in ("fsync", "fdatasync"):
        return Call("flush", _path(arguments[0]))
    if name == "ftruncate":
        return Call("truncate", _path(arguments[0]), number=int(arguments[1]))
    if name == "fallocate" and "FALLOC_FL_KEEP_SIZE" in arguments[1]:
        return None  # the content stays as it is
    if name == "fallocate":
        return Call("allocate", _path(arguments[0]), number=int(arguments[2]) + int(arguments[3]))
    if name == "rename":
        return Call("rename", _path("", arguments[0]), _path("", arguments[1]))
    if name in ("renameat", "renameat2"):
        return Call("rename", _path(arguments[0], arguments[1]), _path(arguments[2], arguments[3]))
    if name in ("mkdir", "mkdirat"):
        return Call("mkdir", _path(*(arguments[:2] if name == "mkdirat" else ("", arguments[0]))))
    return Call("remove", _path(*(arguments[:2] if name == "unlinkat" else ("", arguments[0]))))


def _arguments(text: str) -> Iterator[str]:
    """Split at commas that are neither in a text nor in the name of a descriptor's file."""
    for match in re.finditer(r'(?:"(?:[^"\\]|\\.)*"(?:\.\.\.)?|<[^>]*>|[^,"<])+', text):
        yield match[0].strip()


def _path(descriptor: str, name: str = "") -> PurePosixPath:
    match = _DESCRIPTOR.match(descriptor)
    base = PurePosixPath(match["path"]) if match else PurePosixPath()
    return base / _bytes(name).decode("utf-8", "replace") if name else base


def _bytes(text: str) -> bytes:
    value = ast.literal_eval(f"b{text}")
    assert isinstance(value, bytes)
    return value


class Disk:
    """The directory `root` while calls are replayed."""

    def __init__(self, root: Path) -> None:
        self._root = PurePosixPath(root)
        self.top = Directory()

    def replay(self, call: Call) -> bool:
        """Carry out a call. Returns whether it could change anything here."""
        if call.name == "rename":
            return self._rename(call)
        if self._root not in call.path.parents and not (call.name == "flush" and call.path == self._root):
            return False
        if call.name == "open" and "O_CREAT" not in call.flags and "O_TRUNC" not in call.flags:
            return False
        if call.name == "open":
            self._open(call)
        elif call.name == "mkdir":
            self._parent(call.path).entries[call.path.name] = Directory()
        elif call.name == "remove":
            self._parent(call.path).entries.pop(call.path.name, None)
        else:
            self._change(call)
        return True

    def _open(self, call: Call) -> None:
        found = self._parent(call.path).entries.setdefault(call.path.name, File())
        if "O_TRUNC" in call.flags and isinstance(found, File):
            found.content = b""

    def _change(self, call: Call) -> None:
        found = self._find(call.path)
        if call.name == "flush" and found is not None:
            found.flush()
        elif isinstance(found, File) and call.name == "write":  # all of ours are written from the beginning to the end
            found.content += call.data
        elif isinstance(found, File) and call.name == "truncate":
            found.content = found.content[: call.number].ljust(call.number, b"\0")
        elif isinstance(found, File) and call.name == "allocate":
            found.content = found.content.ljust(call.number, b"\0")

    def _rename(self, call: Call) -> bool:
        if call.other is None or self._root not in call.path.parents or self._root not in call.other.parents:
            return False
        moved = self._parent(call.path).entries.pop(call.path.name)
        self._parent(call.other).entries[call.other.name] = moved
        return True

    def _parent(self, path: PurePosixPath) -> Directory:
        found = self._find(path.parent)
        assert isinstance(found, Directory), path
        return found

    def _find(self, path: PurePosixPath) -> File | Directory | None:
        found: File | Directory | None = self.top
        for name in path.relative_to(self._root).parts:
            found = found.entries.get(name) if isinstance(found, Directory) else None
        return found

    def after_cut(self, cut: str) -> dict[PurePosixPath, bytes]:
        """Return the files that a power cut leaves now, by their paths below the root."""
        entries, content = CUTS[cut]
        found: dict[PurePosixPath, bytes] = {}

        def walk(directory: Directory, path: PurePosixPath) -> None:
            for name, one in entries(directory).items():
                if isinstance(one, Directory):
                    walk(one, path / name)
                else:
                    found[path / name] = content(one)

        walk(self.top, PurePosixPath())
        return found
