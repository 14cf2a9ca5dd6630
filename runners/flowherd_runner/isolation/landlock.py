"""Landlock (landlock(7)): what a process and its children may do with files, whatever is mounted.

It judges by directories, not by paths, and needs no privilege. It does not restrict what only looks (stat, access), nor
chmod, chown, utime and extended attributes, nor descriptors that are open already.
"""

import ctypes
import os
import stat
import struct
from typing import Iterable, Tuple

from flowherd_runner.isolation import system_calls

_CREATE_RULESET = 444
_ADD_RULE = 445
_RESTRICT_SELF = 446
_VERSION = 1
_PATH_BENEATH = 1
#: struct landlock_path_beneath_attr, which is packed: rights, descriptor.
_RULE = struct.Struct("=Qi")
#: struct landlock_ruleset_attr: files, network (ABI 4), scopes (ABI 6).
_RULESET = struct.Struct("=QQQ")
_BYTES_BY_ABI = ((6, 24), (4, 16), (1, 8))

EXECUTE = 1 << 0
WRITE_FILE = 1 << 1
READ_FILE = 1 << 2
READ_DIR = 1 << 3
MAKE_CHAR = 1 << 6
MAKE_BLOCK = 1 << 11
REFER = 1 << 13
TRUNCATE = 1 << 14
IOCTL_DEV = 1 << 15
READING = EXECUTE | READ_FILE | READ_DIR
#: WRITE_FILE, the removing and making of everything (bits 4 to 12), REFER, TRUNCATE, IOCTL_DEV.
_WRITING = WRITE_FILE | 0x1FF0 | REFER | TRUNCATE | IOCTL_DEV
#: What a run may do where it may write: all but make devices.
WRITING = _WRITING & ~(MAKE_CHAR | MAKE_BLOCK)
#: The rights that can be given for something that is no directory.
_OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV

#: The ABI from which on abstract sockets and signals can be kept in.
SCOPED_SINCE = 6
_SCOPE_ABSTRACT_SOCKETS = 1
_SCOPE_SIGNALS = 2

#: A path, and what may be done with it and everything below it.
Rule = Tuple[str, int]


def version() -> int:
    """Return the kernel's ABI of Landlock; 0 when it has none, or it is not switched on (lsm=)."""
    return max(0, system_calls.system_call(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION))


def known_rights(abi: int) -> int:
    """Return the rights that a kernel of this ABI knows."""
    return (1 << {1: 13, 2: 14, 3: 15, 4: 15}.get(abi, 16)) - 1


def restrict(abi: int, handled: int, rules: Iterable[Rule], scoped: bool) -> None:
    """Allow this process, of what is `handled`, only what the rules say; 0 leaves files alone.

    With `scoped`, and from ABI 6 on, it also reaches no abstract socket and signals no process that is not restricted
    likewise. no_new_privs must be set. A path that cannot be opened has no rule. Raises OSError.
    """
    handled &= known_rights(abi)
    scopes = _SCOPE_ABSTRACT_SOCKETS | _SCOPE_SIGNALS if scoped and abi >= SCOPED_SINCE else 0
    if not handled and not scopes:
        return
    attributes = _RULESET.pack(handled, 0, scopes)
    size = next(size for since, size in _BYTES_BY_ABI if abi >= since)
    ruleset = system_calls.checked_call(
        "landlock_create_ruleset", _CREATE_RULESET, attributes, ctypes.c_size_t(size), 0
    )
    try:
        for path, rights in rules:
            _add(ruleset, path, rights & handled)
        system_calls.checked_call("landlock_restrict_self", _RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def writing_rules(abi: int, paths: Iterable[str]) -> Tuple[int, Tuple[Rule, ...]]:
    """Return what is handled, and the rules, for a run that may change nothing but `paths` and what is below them."""
    of_devices = WRITE_FILE | TRUNCATE | IOCTL_DEV
    own = (("/dev", of_devices), ("/proc", WRITE_FILE | TRUNCATE))
    return _WRITING & known_rights(abi), (*own, *((path, WRITING) for path in paths))


def _add(ruleset: int, path: str, rights: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            rights &= _OF_FILES
        if rights:
            rule = _RULE.pack(rights, fd)
            system_calls.checked_call("landlock_add_rule", _ADD_RULE, ruleset, _PATH_BENEATH, rule, 0)
    finally:
        os.close(fd)
