"""What a run has where namespaces are refused and it may be weaker: covered places that it can neither read nor change.

Landlock does that by allowing everything else (siblings.py). It does not restrict looking: names, sizes and times of
what is covered can be seen, and modes and times changed.
"""

import os
from typing import Dict, Iterable, Mapping, Optional, Tuple

from flowherd_runner.isolation import landlock, private_places
from flowherd_runner.isolation.landlock import IOCTL_DEV, READ_FILE, TRUNCATE, WRITE_FILE, WRITING, Ruleset
from flowherd_runner.isolation.mount_table import is_inside, read_mount_table
from flowherd_runner.isolation.mounts import Mounts, Notice
from flowherd_runner.isolation.private_places import REPLACED
from flowherd_runner.isolation.siblings import AllBut, TooManySiblings
from flowherd_runner.isolation.system_places import device_names, reaches_disks
from flowherd_runner.isolation.wanted import Wanted

#: The ABI from which on a file cannot be made empty by its path either.
_TRUNCATE_SINCE = 3
_BY_MOUNTS = "only mounts of its own do that"
_OF_DEVICES = READ_FILE | WRITE_FILE | TRUNCATE | IOCTL_DEV
_OF_PROCESSES = READ_FILE | WRITE_FILE | TRUNCATE
#: Directories in /dev in which a run makes files, or which hold its terminals.
_IN_DEV = ("pts", "ptmx", "shm", "mqueue")


class WithoutMounts:
    """Landlock's part for one run. `missing` is called with what only mounts would give, and why."""

    def __init__(self, directory: str, wanted: Wanted, missing: Notice) -> None:
        self._directory = directory
        self._wanted = wanted
        self._missing = missing
        self._ruleset: Optional[Ruleset] = None
        #: What cannot be read or changed once it is in force: device and inode by path.
        self.covered: Dict[str, Tuple[int, int]] = {}
        #: For the run's environment.
        self.variables: Mapping[str, str] = {}

    def prepare(self, abi: int, writable: Tuple[str, ...]) -> None:
        """Put the rules together, for a kernel of that ABI; `writable` is what a sealed run may change.

        Comes before the user changes, who may not reach all of it. Raises CannotStart if the run needs what is covered.
        """
        found = Mounts(self._directory, self._wanted, self._missing, self._missing).survey()
        self._missing("a /tmp, a /dev/shm and IPC of its own", "they need mounts of its own")
        if abi == 0:
            self._missing("covers over flowherd's files", "they need mounts of its own, or Landlock (lsm=)")
            return
        ruleset = Ruleset(abi, READ_FILE | landlock.ALL_WRITING, scoped=True)
        try:
            rules = self._allow_all(ruleset, abi, found.covered, found.kept, writable)
        except TooManySiblings as error:
            ruleset.close()
            self._missing("covers over flowherd's files", "they need mounts of its own, as {}".format(error))
            return
        self._ruleset, self.covered = ruleset, found.covered
        self._note(abi, rules)

    def enforce(self) -> bool:
        """Do it, and return whether there was anything to do. no_new_privs must be set. Raises OSError."""
        if self._ruleset is None:
            return False
        self._ruleset.enforce()
        return True

    def _allow_all(
        self,
        ruleset: Ruleset,
        abi: int,
        covered: Dict[str, Tuple[int, int]],
        kept: Tuple[str, ...],
        writable: Tuple[str, ...],
    ) -> AllBut:
        everywhere = READ_FILE if self._wanted.is_sealed else READ_FILE | WRITING
        few_devices = self._wanted.is_root or reaches_disks(read_mount_table())
        at_most = {"/sys": READ_FILE, "/proc": READ_FILE if self._wanted.is_root else _OF_PROCESSES}
        if few_devices:
            at_most["/dev"] = 0
        own = self._own_tmp(covered)
        rules = AllBut(ruleset, covered, (*kept, *own), at_most)
        # Its own directories come first, so that they are there even if much lies beside what is covered.
        rules.allow(self._wanted.working_dir, everywhere)
        for path in kept:
            rules.allow(path, everywhere)
        for path in (*self._wanted.keep, *self._wanted.trusted):  # also below what cannot be listed
            rules.allow(path, everywhere)
        for path in (*(writable if self._wanted.is_sealed else ()), *own):
            # As in Mounts: not what has become a link since the run was planned.
            rules.allow(path, READ_FILE | WRITING, links=path in REPLACED or path == self._wanted.own_directory)
        self._allow_system(rules, few_devices)
        rules.allow("/", everywhere)
        return rules

    def _allow_system(self, rules: AllBut, few_devices: bool) -> None:
        rules.allow("/proc/self" if self._wanted.is_root else "/proc", _OF_PROCESSES)
        if not few_devices:
            rules.allow("/dev", _OF_DEVICES)
            return
        for name in device_names():
            rules.allow("/dev/" + name, _OF_DEVICES)
        for name in _IN_DEV:
            rules.allow("/dev/" + name, READ_FILE | WRITING)

    def _own_tmp(self, covered: Iterable[str]) -> Tuple[str, ...]:
        """Make a temporary directory in the run directory if nothing can be made in /tmp. Raises OSError."""
        places = [os.path.realpath(path) for path in REPLACED]
        in_the_way = any(is_inside(path, place) for path in covered for place in places)
        if not in_the_way or self._wanted.owner is not None:  # who cannot reach the run directory
            return ()
        path = os.path.join(private_places.make(os.path.realpath(self._directory)), private_places.TMP)
        self.variables = {"TMPDIR": path}
        return (path,)

    def _note(self, abi: int, rules: AllBut) -> None:
        self._missing("hiding names, sizes and times of what is covered", _BY_MOUNTS)
        self._missing("refusing changes of modes and times there", _BY_MOUNTS)
        self._missing("refusing connections to sockets that have a path", _BY_MOUNTS)
        if abi < _TRUNCATE_SINCE:
            self._missing("refusing to empty files there", "Linux 6.2 is needed")
        if abi < landlock.SCOPED_SINCE:
            self._missing("refusing signals to other processes, and abstract sockets", "Linux 6.12 is needed")
        places = sorted(path for path in rules.above if path != "/" and not self._is_far(path))
        if places:
            self._missing("the use of new files directly in {}".format(", ".join(places)), "what is covered lies below")
        for path in rules.unlisted:
            self._missing("files in {}".format(path), "the directory cannot be listed, to allow what is in it")

    def _is_far(self, path: str) -> bool:
        """Whether the user could not write there anyway."""
        owner = self._wanted.owner[0] if self._wanted.owner is not None else os.geteuid()
        try:
            found = os.stat(path)
        except OSError:
            return True
        return found.st_uid != owner and not found.st_mode & 0o002
