"""Rules of Landlock for everything but some places, for a run whose mounts cannot cover these.

A rule only adds rights, for a directory and all that is below it. So a place is left out by allowing what lies beside
it, and beside each directory above it. What is put there later has no rule.
"""

import os
import stat
from typing import Collection, Iterable, List, Mapping, Set, Tuple

from flowherd_runner.isolation.landlock import Ruleset
from flowherd_runner.isolation.mount_plan import directories_above
from flowherd_runner.isolation.mount_table import is_inside

#: Rules take about 0.03 ms each; a run that would need more of them does without.
MOST_RULES = 5000

_Identity = Tuple[int, int]


class TooManySiblings(Exception):
    """More would have to be allowed than is sensible; the text says where."""


class AllBut:
    """Allows places in a ruleset, and leaves out what is `covered`: real paths, with device and inode of each.

    `kept` are real paths in those that may be allowed all the same. `at_most` limits the rights of some paths. Raises
    OSError if the kernel refuses a rule.
    """

    def __init__(
        self,
        ruleset: Ruleset,
        covered: Mapping[str, _Identity],
        kept: Collection[str],
        at_most: Mapping[str, int],
        most_rules: int = MOST_RULES,
    ) -> None:
        self._ruleset = ruleset
        self._covered = covered
        self._kept = kept
        self._at_most = at_most
        #: Directories above what is covered: of them, only what lies in them can be allowed.
        self.above = _above(covered)
        # A rule is one for the directory itself, wherever it is mounted: that of a name for one of these opens them.
        self._left_out: Set[_Identity] = {*covered.values(), *_identities(self.above)}
        self._rules_left = most_rules
        #: Directories above what is covered whose entries this user cannot list, so that they have no rules.
        self.unlisted: List[str] = []

    def allow(self, path: str, rights: int, links: bool = True) -> None:
        """Allow `path`, and what is below it. One that cannot be opened has no rule.

        With `links`, wherever one leads; without, a path with a link in it has no rule. What lies in a covered place is
        only allowed if it is kept. Raises TooManySiblings.
        """
        try:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            return
        try:
            real = os.readlink("/proc/self/fd/{}".format(fd))
            if real != path and not links:
                return
            if real in self._kept or not any(is_inside(real, covered) for covered in self._covered):
                self._allow(fd, real, rights)
        finally:
            os.close(fd)

    def _allow(self, fd: int, path: str, rights: int) -> None:
        rights &= self._at_most.get(path, ~0)
        if path in self.above:
            self._allow_entries(fd, path, rights)
            return
        found = os.fstat(fd)
        if stat.S_ISLNK(found.st_mode) or (found.st_dev, found.st_ino) in self._left_out:
            return
        self._rules_left -= 1
        if self._rules_left < 0:
            raise TooManySiblings("{} has too many files and directories beside it".format(path))
        self._ruleset.allow(fd, rights)

    def _allow_entries(self, fd: int, path: str, rights: int) -> None:
        try:
            directory = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
        except OSError:
            if path not in self.unlisted:
                self.unlisted.append(path)
            return
        try:
            for name in os.listdir(directory):
                child = os.path.join(path, name)
                if child not in self._covered:
                    self._allow_entry(directory, name, child, rights)
        finally:
            os.close(directory)

    def _allow_entry(self, directory: int, name: str, path: str, rights: int) -> None:
        try:
            # No link is followed: an earlier run may have put one there that leads to what is covered.
            fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        except OSError:  # it has gone, or is not for this user
            return
        try:
            self._allow(fd, path, rights)
        finally:
            os.close(fd)


def _above(paths: Collection[str]) -> Set[str]:
    return {path for path in directories_above(paths) if not any(is_inside(path, other) for other in paths)}


def _identities(paths: Iterable[str]) -> Iterable[_Identity]:
    for path in paths:
        try:
            found = os.stat(path)
        except OSError:
            continue
        yield found.st_dev, found.st_ino
