"""Carries out the mounts of a run: what it must not see is covered, and some places become its own.

Only in a mount namespace of its own (namespaces.own_mounts). Everything is opened before anything is mounted, and
judged by where it really is at that moment: a path may be a link by now that leads somewhere else.
"""

import os
import stat
from functools import partial
from typing import Callable, Dict, FrozenSet, List, Mapping, NamedTuple, Optional, Tuple

from flowherd_runner.isolation import private_places, system_calls
from flowherd_runner.isolation.held_places import hold_above
from flowherd_runner.isolation.mount_plan import Layer, arrange, holder_of
from flowherd_runner.isolation.mount_table import MountTable, is_inside, read_mount_table
from flowherd_runner.isolation.read_only import Writable, close_again, restrict_writing
from flowherd_runner.isolation.system_calls import MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY, MS_REMOUNT
from flowherd_runner.isolation.system_places import second_places, steps, writable_places
from flowherd_runner.isolation.wanted import Wanted
from flowherd_runner.osapi import file_identity

#: Flags of file systems that hold nothing that could give a privilege.
_PLAIN = MS_NOSUID | MS_NODEV | MS_NOEXEC
_EMPTY = "empty"
_NOTHING = "nothing"


#: Called with what there is not, in words, and why.
Notice = Callable[[str, str], None]


class CannotStart(Exception):
    """The run needs a path that it must not have; the text is a sentence that says which."""


class Survey(NamedTuple):
    """What there is of what is wanted."""

    #: Device and inode by real path.
    covered: Dict[str, Tuple[int, int]]
    #: Real paths in what is covered or hidden that stay reachable.
    kept: Tuple[str, ...]


class _Opened(NamedTuple):
    fd: int
    path: str
    is_directory: bool


class Mounts:
    """The mounts of one run.

    `missing(what, why)` is called for what cannot be had; the rest is done all the same. `less(what, why)` is called
    for what the run would like to change and cannot.
    """

    #: What `missing` is called with if everything can be changed.
    READ_ONLY_ROOT = "a root directory that it cannot change"

    def __init__(self, directory: str, wanted: Wanted, missing: Notice, less: Notice) -> None:
        self._directory = directory
        self._wanted = wanted
        self._missing = missing
        self._less = less
        self._opened: Dict[str, Optional[_Opened]] = {}
        #: Other paths of what is covered, by its real path; each is asked for several times.
        self._aliases: Dict[str, Tuple[str, ...]] = {}
        self._table = MountTable("")
        #: Where the host's /proc and the like can be seen once more.
        self._second: FrozenSet[str] = frozenset()
        self._scaffold = -1
        #: What takes the place of a path with something else than emptiness.
        self._replacing: Dict[str, Optional[_Opened]] = {}
        #: Real paths that can be changed, as the run and Landlock may use them.
        self.writable: List[str] = []
        #: What each covered path stood for before: device and inode.
        self.covered: Dict[str, Tuple[int, int]] = {}

    def carry_out(self) -> None:
        """Do all of it, and enter the working directory if it can be entered.

        Raises CannotStart if the run needs what it must not have, and OSError if there is no room for its directories.
        """
        umask = os.umask(0o022)  # everybody may go through what is made on the way to a kept path
        places = private_places.make(self._directory)
        temporary = os.path.join(places, private_places.TMP)
        private_places.make_own_directory(temporary, self._wanted.runtime_name, self._wanted.owner)
        self._table = read_mount_table()
        try:
            working_dir = self._open(self._wanted.working_dir)
            self._open_replacing(places)
            layers = self._layers()
            kept = self._kept(layers, working_dir)
            self.covered = _identities(layers)
            writable = self._writable() if self._wanted.is_sealed else []
            self._make_scaffold(places)
            for what, step in steps(self._table, self._wanted.is_root):
                self._try(what, step)
            arrangement = arrange(layers, {path: one.is_directory for path, one in kept.items()})
            for layer in arrangement.layers:
                self._try("a cover over {}".format(layer.path), partial(self._put, layer, layers[layer.path]))
            for path in arrangement.keep:
                self._try("a way to {}".format(path), partial(system_calls.bind, kept[path].fd, path))
            self._try("covers", self._finish_scaffold)
            if self._wanted.is_sealed:
                mounted = frozenset(arrangement.keep)
                self._try(self.READ_ONLY_ROOT, partial(self._restrict_writing, writable, mounted))
            if self._wanted.is_sealed or not self._wanted.is_root:  # who could change all that runs outside, too
                held = [layer.path for layer in arrangement.layers if layer.path not in self._replacing]
                held += self._wanted.code if self._wanted.is_sealed else ()
                self._try("fixed places of covers", partial(hold_above, held, self._can_change))
            if working_dir is not None and working_dir.is_directory:
                os.chdir(working_dir.path)
        finally:
            os.umask(umask)
            self._close()

    def survey(self) -> Survey:
        """Do of all that only what changes nothing, and return what was found. Raises CannotStart."""
        self._table = read_mount_table()
        try:
            layers = self._layers()
            kept = self._kept(layers, self._open(self._wanted.working_dir))
            arrange(layers, {path: one.is_directory for path, one in kept.items()})
            return Survey(_identities(layers), tuple(kept))
        finally:
            self._close()

    def _close(self) -> None:
        for one in self._opened.values():
            if one is not None:
                os.close(one.fd)
        if self._scaffold >= 0:
            os.close(self._scaffold)

    # What there is.

    def _open(self, path: str) -> Optional[_Opened]:
        if path not in self._opened:
            try:
                fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
            except (OSError, ValueError):
                self._opened[path] = None
            else:
                real = os.readlink("/proc/self/fd/{}".format(fd))
                self._opened[path] = _Opened(fd, real, stat.S_ISDIR(os.fstat(fd).st_mode))
        return self._opened[path]

    def _open_replacing(self, places: str) -> None:
        for path, name in private_places.REPLACED.items():
            place = self._open(path)
            if place is not None and place.is_directory and place.path not in self._replacing:
                self._replacing[place.path] = self._open(os.path.join(places, name)) if name else None
        unseen = [*self._replacing, *self._places((*self._wanted.covered, *self._wanted.hidden))]
        for number, path in enumerate(self._wanted.own):
            place = self._open(path)
            if place is not None and place.is_directory and not any(is_inside(place.path, other) for other in unseen):
                name = "own-{}".format(number)
                private_places.make_own_directory(places, name, self._wanted.owner)
                self._replacing[place.path] = self._open(os.path.join(places, name))

    def _layers(self) -> Dict[str, _Opened]:
        """Return all that is covered or replaced, by its real path."""
        found: Dict[str, _Opened] = {}
        for path in (*self._wanted.covered, *self._wanted.hidden, *self._replacing):
            one = self._open(path)
            if one is None:
                continue
            if one.path == "/":
                raise CannotStart("{} is all there is, and cannot be covered".format(path))
            found[one.path] = one
            if one.path not in self._replacing:
                aliases = (self._open(other) for other in self._aliases_of(one))
                found.update((alias.path, alias) for alias in aliases if alias is not None)
        # Not their aliases, among which are the places at which the run has its own.
        again = {one.path: one for one in map(self._open, second_places(self._table)) if one is not None}
        self._second = frozenset(again)
        return {**found, **again}

    def _kept(self, layers: Dict[str, _Opened], working_dir: Optional[_Opened]) -> Dict[str, _Opened]:
        """Return what stays reachable, by the path at which it is. Raises CannotStart."""
        covered = self._places(self._wanted.covered) | self._second
        hidden = self._places(self._wanted.hidden)
        found: Dict[str, _Opened] = {}
        for path in self._wanted.trusted:
            self._keep(path, covered, layers, found, links=True)
        for path in self._wanted.keep:
            self._keep(path, covered, layers, found)
        for path in self._wanted.write:
            if path != self._wanted.working_dir:
                self._keep(path, covered | hidden, layers, found)
        if self._wanted.is_own and working_dir is not None:
            found[working_dir.path] = working_dir
        else:
            self._keep(self._wanted.working_dir, covered | hidden, layers, found)
        return found

    def _places(self, paths: Tuple[str, ...]) -> FrozenSet[str]:
        """Return the real paths of those that exist, and their aliases."""
        opened = [one for one in map(self._open, paths) if one is not None]
        return frozenset(path for one in opened for path in (one.path, *self._aliases_of(one)))

    def _aliases_of(self, one: _Opened) -> Tuple[str, ...]:
        if one.path not in self._aliases:
            self._aliases[one.path] = tuple(self._table.aliases(one.path, one.fd))
        return self._aliases[one.path]

    def _keep(
        self,
        path: str,
        covered: FrozenSet[str],
        layers: Dict[str, _Opened],
        found: Dict[str, _Opened],
        links: bool = False,
    ) -> None:
        """Add to `found` what must be attached for `path` to stay reachable. Raises CannotStart.

        It may not lie in `covered`. Without `links` it may not lead through a link to something in a layer either: an
        earlier run could have put the link there.
        """
        one = self._open(path)
        if one is None:
            return
        plain = os.path.normpath(path)
        cover = holder_of(one.path, covered)
        if cover is not None:
            text = "the run needs {}, which is in {}, and that is covered: use a place outside of it"
            raise CannotStart(text.format(path, cover))
        if one.path in layers or plain in layers:
            text = "the run needs {}, in whose place it has another one: use a directory in it, or another place"
            raise CannotStart(text.format(path))
        inside = [place for place in (plain, one.path) if holder_of(place, layers) is not None]
        if one.path in inside and one.path != plain and not links:
            text = "the run needs {}, which leads to {}: name that, or use a place that stays reachable"
            raise CannotStart(text.format(path, one.path))
        found.update((place, one) for place in inside)

    def _writable(self) -> List[_Opened]:
        """Return what can be changed although the rest cannot: nothing by a link that was put there meanwhile.

        Another run that may write in the same place could put one there that leads out of it.
        """
        found = []
        for path in dict.fromkeys(self._wanted.write):
            one = self._open(path)
            if one is None:
                self._less("writing to {}".format(path), "it does not exist")
            elif path not in (one.path, self._wanted.own_directory):
                self._less("writing to {}".format(path), "it has become a link, to {}".format(one.path))
            else:
                found.append(one)
        return found

    def _can_change(self, directory: str) -> bool:
        """Whether the run could rename what is in the directory; also if it first had to give itself the right to."""
        if self._wanted.is_sealed:
            return any(is_inside(directory, path) for path in self.writable)
        try:
            found = os.stat(directory)
        except OSError:
            return False
        owner = self._wanted.owner[0] if self._wanted.owner is not None else os.geteuid()
        return found.st_uid == owner or bool(found.st_mode & 0o022)

    def _restrict_writing(self, writable: List[_Opened], mounted: FrozenSet[str]) -> None:
        found = [Writable(one.fd, one.path, one.path in mounted) for one in writable]
        self.writable = [*self._replacing, *(one.path for one in writable)]
        restrict_writing(found, [*self._replacing, *writable_places()], self._table, self._less)
        close_again(self._wanted.code, [one.path for one in writable])

    # Covers.

    def _make_scaffold(self, place: str) -> None:
        """Mount what stands in the places of covered paths: empty directories, and an empty file.

        It may be in the place of the run's own directories on the disk, which are open: there it costs no directory.
        """
        system_calls.mount("tmpfs", place, "tmpfs", _PLAIN, "size=256k,nr_inodes=1k,mode=0755")
        self._scaffold = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        os.mkdir(_EMPTY, 0o755, dir_fd=self._scaffold)
        os.close(os.open(_NOTHING, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0, dir_fd=self._scaffold))

    def _put(self, layer: Layer, target: _Opened) -> None:
        place = "/proc/self/fd/{}".format(target.fd)
        if layer.path in self._replacing:
            self._replace(layer)
        elif not target.is_directory:
            system_calls.mount(self._in_scaffold(_NOTHING), place, None, system_calls.MS_BIND)
        elif not layer.inside:
            system_calls.mount(self._in_scaffold(_EMPTY), place, None, system_calls.MS_BIND)
        else:
            name = str(target.fd)
            os.mkdir(name, 0o755, dir_fd=self._scaffold)
            _make_inside(layer, self._scaffold, name)
            system_calls.mount(self._in_scaffold(name), place, None, system_calls.MS_BIND)

    def _replace(self, layer: Layer) -> None:
        source = self._replacing[layer.path]
        if source is not None:
            _make_inside(layer, source.fd, ".")
            system_calls.bind(source.fd, layer.path)
            return
        system_calls.mount("tmpfs", layer.path, "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
        fd = os.open(layer.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _make_inside(layer, fd, ".")
        finally:
            os.close(fd)

    def _in_scaffold(self, name: str) -> str:
        return "/proc/self/fd/{}/{}".format(self._scaffold, name)

    def _finish_scaffold(self) -> None:
        """Let nothing be written into what stands in the place of a path."""
        system_calls.mount(None, self._in_scaffold("."), None, MS_REMOUNT | MS_RDONLY | _PLAIN)

    def _try(self, what: str, step: Callable[[], None]) -> None:
        try:
            step()
        except OSError as error:
            self._missing(what, "{}: {}".format(error.filename, error.strerror))


def _identities(layers: Mapping[str, _Opened]) -> Dict[str, Tuple[int, int]]:
    return {path: file_identity(one.fd) or (0, 0) for path, one in layers.items()}


def _make_inside(layer: Layer, fd: int, name: str) -> None:
    """Make what kept paths are attached to, in the directory `name` of `fd`."""
    for path, is_directory in layer.inside.items():
        parts = path.split("/")
        for depth in range(1, len(parts) + 1):
            place = "/".join((name, *parts[:depth]))
            try:
                if depth < len(parts) or is_directory:
                    os.mkdir(place, 0o755, dir_fd=fd)
                else:
                    os.close(os.open(place, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=fd))
            except FileExistsError:
                continue
