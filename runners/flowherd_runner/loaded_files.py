"""Notices that a file which this process has loaded is another one now: a module, a library, the interpreter.

Watches the directories of these files, and those above them, by inotify(7); nothing is done while nothing happens
there. If the kernel has no watch left, the files are looked at every few seconds instead. A change is one of time, size
or inode, so a file that is replaced by an equal one counts as changed.

Not noticed: a new file that would be found earlier on sys.path than a loaded one, and changes that another host makes
on a network file system, which inotify does not report.
"""

import ctypes
import errno
import os
import struct
import sys
import time
from typing import Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

_libc = ctypes.CDLL(None, use_errno=True)
#: The head of struct inotify_event: watch, mask, cookie, length of the name.
_EVENT = struct.Struct("iIII")
# inotify(7)
_ATTRIB = 0x004
_CLOSE_WRITE = 0x008
_OVERFLOW = 0x4000
_ONLYDIR = 0x01000000
_MASK_ADD = 0x20000000
#: IN_DELETE_SELF and IN_MOVE_SELF.
_OF_ITSELF = 0x400 | 0x800
#: IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE and IN_DELETE.
_OF_ENTRIES = 0x040 | 0x080 | 0x100 | 0x200
#: Not IN_MODIFY, which each write to a log in the same directory would cause.
_OF_FILES = _OF_ENTRIES | _OF_ITSELF | _CLOSE_WRITE | _ATTRIB
_READ_BYTES = 64 * 1024
#: Pause between two looks at all files when the directories cannot be watched, seconds.
_LOOK_INTERVAL_S = 5.0
#: Most directories that are watched of a package that could not be imported.
_MAX_DIRECTORIES = 500

#: Time of change, size and inode of a file; None when it is not there.
_Stamp = Optional[Tuple[int, int, int]]


class _Watched(NamedTuple):
    """A watched directory."""

    path: str
    #: Its entries that are loaded files or lead to some.
    names: Set[str]
    #: Beginnings of the names of entries that a module might come from that could not be imported.
    missing: Set[str]


class LoadedFiles:
    """The files that this process has loaded, and whether they are still the same."""

    def __init__(self) -> None:
        # IN_CLOEXEC and IN_NONBLOCK are the open(2) flags of those names.
        self._fd = int(_libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))
        #: Whether everything that should be watched is.
        self._complete = self._fd >= 0
        self._stamps: Dict[str, _Stamp] = {}
        self._watched: Dict[int, _Watched] = {}
        #: Watches by directory and mask, so that the kernel is asked once.
        self._watches: Dict[Tuple[str, int], Optional[_Watched]] = {}
        self._real_directories: Dict[str, str] = {}
        self._next_look_s = 0.0
        self._changed: Optional[str] = None

    def fileno(self) -> int:
        """Return the descriptor, which is readable when a change may have happened; -1 when there is none."""
        return self._fd

    @property
    def look_interval_s(self) -> Optional[float]:
        """How long to wait at most until the next `changed`; None when the descriptor reports every change."""
        return None if self._complete else _LOOK_INTERVAL_S

    def note_loaded(self) -> None:
        """Remember what has been loaded since the last call."""
        for path in _loaded_paths():
            self.note(path)

    def note(self, path: str) -> None:
        """Remember one file as it is now; of a file in an archive, the archive."""
        while path not in self._stamps:
            # Watched first, so that no change is between the two.
            self._watch_file(path)
            if os.path.islink(path) or self._real_directory(path) != os.path.dirname(path):
                self._watch_file(os.path.realpath(path))
            stamp = _stamp(path)
            if stamp is not None:
                self._stamps[path] = stamp
            path = os.path.dirname(path) if stamp is None else path

    def note_missing(self, module: str) -> None:
        """Count it as a change when something of the top-level package of `module` appears or changes."""
        top = module.partition(".")[0]
        for place in sys.path:
            self._watch(place, _OF_ENTRIES, missing=top)
            for number, (directory, below, _) in enumerate(os.walk(os.path.join(place, top))):
                below[:] = [name for name in below if name != "__pycache__"]
                if number == _MAX_DIRECTORIES:
                    break
                self._watch(directory, _OF_FILES, missing="")

    def changed(self) -> Optional[str]:
        """Return a loaded file that has changed since it was noted; None when none has. Costs one read(2)."""
        if self._changed is None:
            must_look = self._read_events()
            if not self._complete and time.monotonic() >= self._next_look_s:
                self._next_look_s = time.monotonic() + _LOOK_INTERVAL_S
                must_look = True
            if must_look and self._changed is None:
                self._changed = next((path for path, stamp in self._stamps.items() if _stamp(path) != stamp), None)
        return self._changed

    def close(self) -> None:
        """Close the descriptor."""
        if self._fd >= 0:
            os.close(self._fd)

    # Watches.

    def _watch_file(self, path: str) -> None:
        directory, name = os.path.split(path)
        self._watch(directory, _OF_FILES, name)
        while directory not in ("", "/"):  # one above may be renamed, or be a link that gets another target
            directory, name = os.path.split(directory)
            self._watch(directory, _OF_ENTRIES, name)

    def _watch(self, directory: str, mask: int, name: Optional[str] = None, missing: Optional[str] = None) -> None:
        key = (directory, mask)
        if key not in self._watches:
            self._watches[key] = self._ask_kernel(directory, mask)
        watched = self._watches[key]
        if watched is not None and name is not None:
            watched.names.add(name)
        if watched is not None and missing is not None:
            watched.missing.add(missing)

    def _ask_kernel(self, directory: str, mask: int) -> Optional[_Watched]:
        if self._fd < 0:
            return None
        flags = ctypes.c_uint32(mask | _ONLYDIR | _MASK_ADD)
        watch = int(_libc.inotify_add_watch(self._fd, os.fsencode(directory), flags))
        if watch >= 0:  # the same one as before, when the directory has two names
            return self._watched.setdefault(watch, _Watched(directory, set(), set()))
        if ctypes.get_errno() in (errno.ENOSPC, errno.ENOMEM):
            self._complete = False
        return None

    def _read_events(self) -> bool:
        """Read what has happened and return whether the loaded files must be looked at."""
        must_look = False
        while self._fd >= 0:
            try:
                data = os.read(self._fd, _READ_BYTES)
            except BlockingIOError:
                break
            for watch, mask, name in _events(data):
                must_look = self._matters(watch, mask, name) or must_look
        return must_look

    def _matters(self, watch: int, mask: int, name: str) -> bool:
        watched = self._watched.get(watch)
        if mask & _OVERFLOW or watched is None:
            return bool(mask & _OVERFLOW)
        if mask & _OF_ITSELF or name in watched.names:
            return True
        is_source = bool(name) and name != "__pycache__" and ".pyc" not in name
        if is_source and any(name.startswith(beginning) for beginning in watched.missing):
            self._changed = self._changed or os.path.join(watched.path, name)
        return False

    def _real_directory(self, path: str) -> str:
        directory = os.path.dirname(path)
        if directory not in self._real_directories:
            self._real_directories[directory] = os.path.realpath(directory)
        return self._real_directories[directory]


def _events(data: bytes) -> Iterator[Tuple[int, int, str]]:
    """Yield watch, mask and name of each event."""
    start = 0
    while start < len(data):
        watch, mask, _, length = _EVENT.unpack_from(data, start)
        start += _EVENT.size + length
        yield watch, mask, os.fsdecode(data[start - length : start].rstrip(b"\0"))


def _loaded_paths() -> Iterator[str]:
    yield sys.executable
    for prefix in (os.path.dirname(os.path.dirname(sys.executable)), sys.prefix):
        if os.path.exists(os.path.join(prefix, "pyvenv.cfg")):
            yield os.path.join(prefix, "pyvenv.cfg")
    for module in list(sys.modules.values()):
        path = getattr(module, "__dict__", {}).get("__file__")
        if isinstance(path, str):
            yield os.path.abspath(path)
    for path in _mapped_programs():
        yield path


def _mapped_programs() -> List[str]:
    """Return the programs and libraries that are mapped (proc(5), /proc/PID/maps), extension modules among them."""
    with open("/proc/self/maps", errors="surrogateescape") as file:
        lines = [line.rstrip("\n").split(None, 5) for line in file]
    paths = [fields[5] for fields in lines if len(fields) > 5 and "x" in fields[1]]
    return [path for path in dict.fromkeys(paths) if path.startswith("/") and not path.endswith(" (deleted)")]


def _stamp(path: str) -> _Stamp:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
