"""A filter of system calls (seccomp(2)): a list of what is refused; everything else is allowed.

The numbers of calls differ between machines, so it is offered on those whose numbers are here. Programs of 32 bits are
filtered too.
"""

import ctypes
import errno
import os
import struct
from typing import Dict, Iterator, List, NamedTuple, Sequence, Tuple, Union

from flowherd_runner.isolation import system_calls

# linux/audit.h
_X86_64, _I386, _AARCH64, _ARM = 0xC000003E, 0x40000003, 0xC00000B7, 0x40000028
#: Bit of the numbers of the x32 ABI, which are other names for the same calls.
_X32 = 0x40000000

_NUMBERS: Dict[int, Dict[str, int]] = {
    _X86_64: {
        "unshare": 272, "clone": 56, "clone3": 435, "socket": 41, "add_key": 248, "request_key": 249, "keyctl": 250,
        "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "prlimit64": 302, "setpriority": 141,
        "sched_setaffinity": 203, "ioprio_set": 251, "io_uring_setup": 425, "pidfd_getfd": 438,
    },
    _I386: {
        "unshare": 310, "clone": 120, "clone3": 435, "socket": 359, "add_key": 286, "request_key": 287, "keyctl": 288,
        "ptrace": 26, "process_vm_readv": 347, "process_vm_writev": 348, "prlimit64": 340, "setpriority": 97,
        "sched_setaffinity": 241, "ioprio_set": 289, "io_uring_setup": 425, "pidfd_getfd": 438, "socketcall": 102,
    },
    _AARCH64: {
        "unshare": 97, "clone": 220, "clone3": 435, "socket": 198, "add_key": 217, "request_key": 218, "keyctl": 219,
        "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271, "prlimit64": 261, "setpriority": 140,
        "sched_setaffinity": 122, "ioprio_set": 30, "io_uring_setup": 425, "pidfd_getfd": 438,
    },
    _ARM: {
        "unshare": 337, "clone": 120, "clone3": 435, "socket": 281, "add_key": 309, "request_key": 310, "keyctl": 311,
        "ptrace": 26, "process_vm_readv": 376, "process_vm_writev": 377, "prlimit64": 369, "setpriority": 97,
        "sched_setaffinity": 241, "ioprio_set": 314, "io_uring_setup": 425, "pidfd_getfd": 438,
    },
}  # fmt: skip
#: Native architecture and that of 32 bits, by machine.
_ARCHITECTURES = {"x86_64": (_X86_64, _I386), "aarch64": (_AARCH64, _ARM)}
#: seccomp(2) itself, by machine.
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_SET_MODE_FILTER = 1
#: Without it, kernels before 5.16 make all of the process slower (PR_SPEC_STORE_BYPASS, prctl(2)).
_SPEC_ALLOW = 1 << 2

# linux/bpf_common.h
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_INSTRUCTION = struct.Struct("=HBBI")
_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
#: Where struct seccomp_data has the number of the call, the architecture, and the first argument.
_AT_NUMBER, _AT_ARCHITECTURE, _AT_ARGUMENTS = 0, 4, 16


class Refused(NamedTuple):
    """A call that is refused whatever its arguments are."""

    call: str
    error: int = errno.EPERM


class RefusedFlags(NamedTuple):
    """A call that is refused if one of these bits is set in its first argument."""

    call: str
    flags: int


class OnlyFamilies(NamedTuple):
    """Sockets of these address families only (address_families(7))."""

    families: Tuple[int, ...]


class NotForOthers(NamedTuple):
    """A call that is refused if that argument, a pid, is not 0: this process itself."""

    call: str
    argument: int


Rule = Union[Refused, RefusedFlags, OnlyFamilies, NotForOthers]
_Instructions = List[Tuple[int, int, int, int]]


def is_offered() -> bool:
    """Return whether the numbers of this machine's calls are known."""
    return os.uname().machine in _ARCHITECTURES and struct.calcsize("P") == 8


def apply(rules: Sequence[Rule]) -> None:
    """Refuse for good, in this process and its children, what the rules name. no_new_privs must be set. OSError."""
    program = encoded(rules)
    buffer = ctypes.create_string_buffer(program, len(program))
    head = struct.pack("HxxxxxxP", len(program) // _INSTRUCTION.size, ctypes.addressof(buffer))
    number = _SECCOMP[os.uname().machine]
    try:
        system_calls.checked_call("seccomp", number, _SET_MODE_FILTER, _SPEC_ALLOW, head)
    except OSError as error:
        if error.errno != errno.EINVAL:  # before Linux 4.17 without the flag
            raise
        system_calls.checked_call("seccomp", number, _SET_MODE_FILTER, 0, head)


def encoded(rules: Sequence[Rule]) -> bytes:
    """Return the filter as the kernel takes it."""
    return b"".join(_INSTRUCTION.pack(*one) for one in _program(rules))


def _program(rules: Sequence[Rule]) -> _Instructions:
    program: _Instructions = [(_LOAD, 0, 0, _AT_ARCHITECTURE)]
    for architecture in _ARCHITECTURES[os.uname().machine]:
        section = list(_section(architecture, rules))
        # A jump reaches 255 instructions, which a section does not have.
        program += [(_EQUAL, 0, len(section), architecture), *section]
    return [*program, _refuse(errno.ENOSYS)]


def _section(architecture: int, rules: Sequence[Rule]) -> Iterator[Tuple[int, int, int, int]]:
    yield _LOAD, 0, 0, _AT_NUMBER
    if architecture == _X86_64:
        yield _AT_LEAST, 0, 1, _X32
        yield _refuse(errno.ENOSYS)
    for rule in rules:
        for call, body in _bodies(rule):
            number = _NUMBERS[architecture].get(call)
            if number is not None:
                yield _EQUAL, 0, len(body), number
                for one in body:
                    yield one
    yield _RETURN, 0, 0, _ALLOW


def _bodies(rule: Rule) -> Iterator[Tuple[str, _Instructions]]:
    """Yield the calls that the rule is about, and what decides on each; the last instruction is a return."""
    if isinstance(rule, Refused):
        yield rule.call, [_refuse(rule.error)]
    elif isinstance(rule, RefusedFlags):
        first = (_LOAD, 0, 0, _AT_ARGUMENTS)
        yield rule.call, [first, (_ANY_BIT, 0, 1, rule.flags), _refuse(errno.EPERM), (_RETURN, 0, 0, _ALLOW)]
    elif isinstance(rule, NotForOthers):
        argument = (_LOAD, 0, 0, _AT_ARGUMENTS + 8 * rule.argument)
        yield rule.call, [argument, (_EQUAL, 1, 0, 0), _refuse(errno.EPERM), (_RETURN, 0, 0, _ALLOW)]
    else:
        known = [(_EQUAL, len(rule.families) - index, 0, one) for index, one in enumerate(rule.families)]
        yield "socket", [(_LOAD, 0, 0, _AT_ARGUMENTS), *known, _refuse(errno.EAFNOSUPPORT), (_RETURN, 0, 0, _ALLOW)]
        yield "socketcall", [_refuse(errno.ENOSYS)]  # its arguments are in memory, where a filter does not see them


def _refuse(number: int) -> Tuple[int, int, int, int]:
    return _RETURN, 0, 0, _ERRNO | number
