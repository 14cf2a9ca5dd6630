"""Landlock (landlock(7)): what a process and its children may do with files, whatever is mounted.

It judges by directories, not by paths, and needs no privilege. It does not restrict what only looks (stat, access), nor
chmod, chown, utime and extended attributes, nor descriptors that are open already.
"""

import ctypes
import errno
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
MAKE_CHAR = 1 << 6
MAKE_BLOCK = 1 << 11
REFER = 1 << 13
TRUNCATE = 1 << 14
IOCTL_DEV = 1 << 15
#: WRITE_FILE, the removing and making of everything (bits 4 to 12), REFER, TRUNCATE, IOCTL_DEV.
ALL_WRITING = WRITE_FILE | 0x1FF0 | REFER | TRUNCATE | IOCTL_DEV
#: What a run may do where it may write: all but make devices.
WRITING = ALL_WRITING & ~(MAKE_CHAR | MAKE_BLOCK)
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


class Ruleset:
    """Of what is `handled`, only what is allowed here will be; 0 leaves files alone.

    With `scoped`, and from ABI 6 on, abstract sockets are out of reach too, and processes that are not restricted in
    the same way cannot be signalled. Raises OSError.
    """

    def __init__(self, abi: int, handled: int, scoped: bool) -> None:
        self._handled = handled & known_rights(abi)
        scopes = _SCOPE_ABSTRACT_SOCKETS | _SCOPE_SIGNALS if scoped and abi >= SCOPED_SINCE else 0
        self._fd = -1
        if not self._handled and not scopes:
            return
        attributes = _RULESET.pack(self._handled, 0, scopes)
        size = ctypes.c_size_t(next(size for since, size in _BYTES_BY_ABI if abi >= since))
        self._fd = system_calls.checked_call("landlock_create_ruleset", _CREATE_RULESET, attributes, size, 0)

    def allow(self, fd: int, rights: int) -> None:
        """Allow what the descriptor stands for, and what is below it. Raises OSError."""
        rights &= self._handled
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            rights &= _OF_FILES
        if rights:
            rule = _RULE.pack(rights, fd)
            try:
                system_calls.checked_call("landlock_add_rule", _ADD_RULE, self._fd, _PATH_BENEATH, rule, 0)
            except OSError as error:
                if error.errno != errno.EBADFD:  # what is on no disk, such as a namespace, is not restricted
                    raise

    def enforce(self) -> None:
        """Restrict this process and its children for good. no_new_privs must be set. Raises OSError."""
        try:
            if self._fd >= 0:
                system_calls.checked_call("landlock_restrict_self", _RESTRICT_SELF, self._fd, 0)
        finally:
            self.close()

    def close(self) -> None:
        """Give it up, if it was not enforced."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def restrict(abi: int, handled: int, rules: Iterable[Rule], scoped: bool) -> None:
    """Restrict this process for good by a ruleset with these rules. A path that cannot be opened has no rule.

    no_new_privs must be set. Raises OSError.
    """
    prepared(abi, handled, rules, scoped).enforce()


def prepared(abi: int, handled: int, rules: Iterable[Rule], scoped: bool) -> Ruleset:
    """Return a ruleset with these rules, for the caller to enforce or close. Raises OSError."""
    ruleset = Ruleset(abi, handled, scoped)
    try:
        for path, rights in rules:
            _allow(ruleset, path, rights)
    except OSError:
        ruleset.close()
        raise
    return ruleset


def writing_rules(abi: int, paths: Iterable[str]) -> Tuple[int, Tuple[Rule, ...]]:
    """Return what is handled, and the rules, for a run that may change nothing but `paths` and what is below them."""
    of_devices = WRITE_FILE | TRUNCATE | IOCTL_DEV
    own = (("/dev", of_devices), ("/proc", WRITE_FILE | TRUNCATE))
    return ALL_WRITING & known_rights(abi), (*own, *((path, WRITING) for path in paths))


def _allow(ruleset: Ruleset, path: str, rights: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        ruleset.allow(fd, rights)
    finally:
        os.close(fd)
