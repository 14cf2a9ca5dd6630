"""Keeps a flow process apart from all that is not its run's, in the order that its preparation needs.

`mount` comes before the user changes, `lock` after it, `prove` last, before any user code. Each of them refuses the run
if what it was promised is not in force, unless the run may be started with less.
"""

import contextlib
import errno
import os
import pwd
import socket
import sys
from typing import Callable, List, Mapping, NamedTuple, Optional, Tuple

from flowherd_runner import PACKAGE_DIRECTORY, osapi
from flowherd_runner.contract.files import SPEC_FILE, is_absent
from flowherd_runner.contract.isolation import NONE, PRIVATE, SEALED, InForce, Missing
from flowherd_runner.contract.spec import RunSpec
from flowherd_runner.isolation import capabilities, landlock, namespaces, proof, seccomp, system_calls
from flowherd_runner.isolation.interpreter_places import code_places, needed_places
from flowherd_runner.isolation.mount_table import is_inside
from flowherd_runner.isolation.mounts import CannotStart, Mounts
from flowherd_runner.isolation.namespaces import Apart, NotToBeHad
from flowherd_runner.isolation.own_places import make_missing
from flowherd_runner.isolation.private_places import REPLACED
from flowherd_runner.isolation.read_only import NOT_BY_LIST
from flowherd_runner.isolation.wanted import Wanted
from flowherd_runner.isolation.ways_out import STAYING, ways_out
from flowherd_runner.isolation.without_mounts import WithoutMounts
from flowherd_runner.kinds.definition import NotStarted

_NETWORK = "network"
#: What is listed and promised by no level.
_EXTRA = ""
#: Address families of a run without a network; of others, such as AF_VSOCK, a network namespace keeps nothing.
_FAMILIES = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK)
#: Calls that reach into other processes, of which a pid namespace leaves none to be named.
_ON_OTHERS = ("ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd")


class _Lack(NamedTuple):
    missing: Missing
    #: The level, or the network, that promises it.
    promised_by: str


class Enclosure:
    """What keeps one flow process apart. `apart` says whether its runner has made a pid namespace for it.

    Raises NotStarted if it does not.
    """

    def __init__(
        self,
        spec: RunSpec,
        directory: str,
        runner_pid: int,
        apart: Optional[Apart],
        user: Optional[pwd.struct_passwd],
    ) -> None:
        self._asked = spec.isolation
        self._directory = directory
        self._runner_pid = runner_pid
        if apart is None:  # by a fork server that did not know of it
            raise NotStarted("the run is to be kept apart, and its runner was started without a namespace for it")
        self._apart = apart
        self._user = user
        self._owner = (user.pw_uid, user.pw_gid) if user is not None else None
        self._home = user.pw_dir if user is not None else os.path.expanduser("~")
        self._is_root = (user.pw_uid if user is not None else os.geteuid()) == 0
        self._agent_is_root = os.geteuid() == 0
        self._lacks: List[_Lack] = []
        self._has_mounts = False
        #: What takes the place of mounts, and whether it does.
        self._without: Optional[WithoutMounts] = None
        self._is_restricted = False
        #: What the run may change at the level "sealed".
        self._writable: Tuple[str, ...] = ()
        #: What covered paths stood for before.
        self._covered: Mapping[str, Tuple[int, int]] = {}
        #: Set in the run's environment unless it says something else.
        self.variables = {"XDG_RUNTIME_DIR": "/tmp/runtime-{}".format(self._owner[0] if self._owner else os.geteuid())}

    # The steps.

    def mount(self, working_dir: str, is_own: bool) -> None:
        """Have mounts, IPC, and perhaps a network of its own; `is_own`: the directory is the run's own fresh one.

        This process is in `working_dir` afterwards. Raises NotStarted.
        """
        for path in self._asked.write if self._asked.level == SEALED else ():
            if not _is_by_list(path):
                self._less("writing to {}".format(path), "no list opens {}".format(", ".join(NOT_BY_LIST)))
        if self._apart.init_pid is None:
            self._lack("a pid namespace", self._apart.why_not, PRIVATE)
        else:
            try:
                namespaces.own_mounts(self._asked.network == "none")
                self._has_mounts = True
            except NotToBeHad as error:
                self._lack("mounts of its own", str(error), PRIVATE)
        for path in filter(is_absent, self._asked.hide):  # a name may be wrong, and what comes later is seen
            self._less("hiding {}".format(path), "it does not exist")
        if self._has_mounts:
            self._carry_out(working_dir, is_own)
        else:
            self._do_without(working_dir, is_own)
        self._decide()
        if self._owner is not None:  # who cannot do it any more
            capabilities.limit(())

    def lock(self) -> None:
        """Give up, for good, all by which what is in force could be undone. Raises NotStarted."""
        osapi.prctl(system_calls.PR_SET_NO_NEW_PRIVS, 1)
        self._try("a session keyring of its own", _EXTRA, system_calls.join_new_session_keyring)
        kept = capabilities.KEPT_OF_ROOT if self._is_root and self._asked.level == PRIVATE else ()
        self._try("fewer capabilities", PRIVATE, lambda: capabilities.keep_only(kept))
        self._restrict_files()
        self._restrict_calls()
        self._decide()

    def prove(self) -> InForce:
        """Try what must fail, and return what is in force. Raises NotStarted when something succeeds."""
        level, network = self._level(), self._network()
        attempts: List[proof.Attempt] = []
        if level != NONE:
            attempts += proof.of_covers(os.path.join(self._directory, SPEC_FILE), self._covered)
            attempts += proof.of_processes(self._runner_pid)
        elif self._is_restricted:
            attempts += proof.of_rules(os.path.join(self._directory, SPEC_FILE), self._covered)
            attempts += proof.of_signals(self._runner_pid) if landlock.version() >= landlock.SCOPED_SINCE else ()
            attempts += proof.of_writing(self._read_only(), by_rules=True) if self._asked.level == SEALED else ()
        if level == SEALED:
            attempts += proof.of_writing(self._read_only())
        if network == "none":
            attempts += proof.of_network()
        try:
            proved = proof.prove(attempts)
        except proof.Broken as error:
            text = "the run was to be kept apart ({}), and it is not: {}. This is an error in flowherd or in the kernel"
            raise NotStarted(text.format(self._asked.level, error)) from error
        missing = tuple(one.missing for one in self._lacks)
        return InForce(self._asked.level, level, network, missing, proved, self._apart.init_pid)

    # Mounts.

    def _carry_out(self, working_dir: str, is_own: bool) -> None:
        hidden = (*self._asked.hide, *ways_out(self._home))
        own = self._asked.own if self._asked.level == SEALED else ()
        make_missing(own, self._user)
        wanted = self._wanted(working_dir, is_own, hidden)._replace(own=own)
        mounts = Mounts(self._directory, wanted, self._missing_mount, self._less)
        self._start(mounts.carry_out)
        self._writable, self._covered = tuple(mounts.writable), mounts.covered
        _reopen_input()

    def _do_without(self, working_dir: str, is_own: bool) -> None:
        """Have Landlock and a filter of system calls, which need no namespaces, do what they can."""
        self._writable = (*self._write_list(working_dir, is_own), *REPLACED)
        if self._asked.network == "none" and not seccomp.is_offered():
            self._lack("a network of its own", "it needs a namespace, or a filter of system calls", _NETWORK)
        # Sockets can be connected to whatever the rules are, so that what is covered for these would gain nothing.
        wanted = self._wanted(working_dir, is_own, self._asked.hide)
        without = WithoutMounts(self._directory, wanted, self._missing_mount)
        self._start(lambda: without.prepare(landlock.version(), self._writable))
        self._without, self._covered, self.variables = without, without.covered, dict(without.variables)

    def _wanted(self, working_dir: str, is_own: bool, hidden: Tuple[str, ...]) -> Wanted:
        return Wanted(
            working_dir=working_dir,
            is_own=is_own,
            covered=(*self._asked.covered, self._directory),
            hidden=hidden,
            keep=self._asked.keep,
            trusted=(*needed_places(), *STAYING),
            write=self._write_list(working_dir, is_own),
            code=code_places(),
            own=(),
            is_sealed=self._asked.level == SEALED,
            is_root=self._is_root,
            owner=self._owner,
            runtime_name=os.path.basename(self.variables["XDG_RUNTIME_DIR"]),
        )

    def _start(self, step: Callable[[], None]) -> None:
        try:
            step()
        except CannotStart as error:
            raise NotStarted("{}: the run is kept apart ({})".format(error, self._asked.level)) from error
        except OSError as error:
            text = "the run cannot be kept apart ({}): {}: {}"
            raise NotStarted(text.format(self._asked.level, error.filename, error.strerror)) from error

    def _write_list(self, working_dir: str, is_own: bool) -> Tuple[str, ...]:
        """Return what can be changed in a sealed run: real paths, and the run's own fresh directory as it is named."""
        listed = tuple(path for path in self._asked.write if _is_by_list(path))
        if is_own:
            return (*listed, working_dir)
        real = os.path.realpath(working_dir)
        inside = any(is_inside(real, path) for path in listed)
        return (*listed, real) if (inside or self._asked.floor != SEALED) and _is_by_list(real) else listed

    def _missing_mount(self, what: str, why: str) -> None:
        self._lack(what, why, SEALED if what == Mounts.READ_ONLY_ROOT else PRIVATE)

    def _less(self, what: str, why: str) -> None:
        self._lack(what, why, _EXTRA)

    # The locks.

    def _restrict_files(self) -> None:
        if self._without is not None:
            self._try("Landlock", PRIVATE, self._do_restrict)
            return
        abi = landlock.version()
        handled: int = 0
        rules: Tuple[landlock.Rule, ...] = ()
        if self._asked.level == SEALED:
            if abi == 0:
                self._lack("Landlock's rules for files", "this kernel has no Landlock, or it is off (lsm=)", SEALED)
            handled, rules = landlock.writing_rules(abi, self._writable)
        if abi < landlock.SCOPED_SINCE and self._asked.network == "host":
            text = "Landlock of this kernel is of ABI {}, and {} is needed (Linux 6.12)"
            self._lack("no abstract sockets of the host", text.format(abi, landlock.SCOPED_SINCE), _EXTRA)
        if abi:
            step = lambda: landlock.restrict(abi, handled, rules, scoped=True)  # noqa: E731
            self._try("Landlock", SEALED if handled else _EXTRA, step)

    def _do_restrict(self) -> None:
        self._is_restricted = self._without is not None and self._without.enforce()

    def _restrict_calls(self) -> None:
        if not seccomp.is_offered():
            self._lack("a filter of system calls", "flowherd has none for this machine", _EXTRA)
            return
        rules = self._refused_calls()
        promised_by = _NETWORK if self._asked.network == "none" and not self._has_mounts else _EXTRA
        self._try("a filter of system calls", promised_by, lambda: seccomp.apply(rules))

    def _refused_calls(self) -> List[seccomp.Rule]:
        # Control groups can be mounted anew from a namespace of their own, and written to: the agent's among them.
        flags = system_calls.CLONE_NEWCGROUP
        if self._asked.level == SEALED:
            flags = system_calls.ALL_NAMESPACES
        rules: List[seccomp.Rule] = [seccomp.RefusedFlags(call, flags) for call in ("unshare", "clone")]
        # Its flags are in memory, where a filter does not see them; the C library then uses clone.
        rules.append(seccomp.Refused("clone3", errno.ENOSYS))
        if self._agent_is_root or not self._has_mounts:  # otherwise the keyrings are those of the user namespace
            rules += [seccomp.Refused(call) for call in ("add_key", "request_key", "keyctl")]
        if self._asked.network == "none":
            rules.append(seccomp.OnlyFamilies(_FAMILIES if self._has_mounts else (socket.AF_UNIX,)))
            rules.append(seccomp.Refused("io_uring_setup", errno.ENOSYS))  # makes sockets past the filter
        if not self._has_mounts:  # other processes of the user can be named
            rules += [seccomp.Refused(call) for call in _ON_OTHERS]
            rules.append(seccomp.NotForOthers("prlimit64", 0))
        return rules

    # What there is not.

    def _lack(self, what: str, why: str, promised_by: str) -> None:
        self._lacks.append(_Lack(Missing(what, why), promised_by))

    def _try(self, what: str, promised_by: str, step: Callable[[], None]) -> None:
        try:
            step()
        except OSError as error:
            self._lack(what, "{}: {}".format(error.filename, error.strerror), promised_by)

    def _level(self) -> str:
        promises = {one.promised_by for one in self._lacks}
        if PRIVATE in promises:
            return NONE
        return PRIVATE if SEALED in promises else self._asked.level

    def _network(self) -> str:
        lacking = any(one.promised_by == _NETWORK for one in self._lacks)
        return "host" if lacking else self._asked.network

    def _decide(self) -> None:
        """Raise NotStarted if something that was asked for is not in force and must be."""
        if self._asked.if_missing == "weaker" or (self._level(), self._network()) == (
            self._asked.level,
            self._asked.network,
        ):
            return
        lacks = ["{} ({})".format(*one.missing) for one in self._lacks if one.promised_by != _EXTRA]
        text = (
            "the run is to be kept apart ({}), and this host does not give it {}. `flowherd doctor` says how to get "
            'it; with if_missing = "weaker" the run is started with what there is'
        )
        raise NotStarted(text.format(self._asked.level, " and ".join(lacks)))

    def _read_only(self) -> List[str]:
        """Return directories in which this process could make files if nothing were read-only."""
        places = ("/", self._home, sys.prefix, os.path.dirname(PACKAGE_DIRECTORY), os.path.dirname(self._directory))
        return [
            path
            for path in dict.fromkeys(map(os.path.realpath, places))
            if os.path.isdir(path) and not any(is_inside(path, other) for other in self._writable)
        ]


def _is_by_list(path: str) -> bool:
    """Whether a write list can open the path: processes, devices and control groups of the host stay as they are."""
    of_host = any(is_inside(path, place) for place in NOT_BY_LIST)
    return not of_host or any(is_inside(path, place) for place in REPLACED)


def _reopen_input() -> None:
    """Have standard input by way of this process's own mounts: by that of the host, its mode could be changed."""
    with contextlib.suppress(OSError):  # closed, or without a /dev/null
        if os.path.samestat(os.fstat(0), os.stat(os.devnull)):
            fd = os.open(os.devnull, os.O_RDWR)
            os.dup2(fd, 0)
            os.close(fd)
