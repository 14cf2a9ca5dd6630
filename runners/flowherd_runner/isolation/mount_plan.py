"""What must be mounted where, so that a run does not see some paths and still reaches others below them.

Pure: paths go in, steps come out. All paths are absolute, normal, and without links.
"""

import os
from typing import Collection, Container, Dict, Iterable, List, Mapping, NamedTuple, Optional, Set


class Layer(NamedTuple):
    """A path in whose place the run sees something else."""

    path: str
    #: What must exist in what it sees there, relative paths, because kept paths are attached to it; and whether each is
    #: a directory.
    inside: Dict[str, bool]


class Arrangement(NamedTuple):
    """The steps, in order: first all layers, then all kept paths."""

    layers: List[Layer]
    keep: List[str]


def arrange(layers: Collection[str], kept: Mapping[str, bool]) -> Arrangement:
    """Return how `layers` are put in place and `kept` stay reachable below them; True of `kept` are directories.

    Layers come deepest first, because what is below a layer cannot be reached by its path any more. Kept paths come
    from above, each with all that is mounted below it by then: a layer in a kept path stays. What another one hides or
    shows anyway is left out.
    """
    chosen = _Paths(layers, kept)
    found = {path: Layer(path, {}) for path in layers if chosen.layer_of(path) is None}
    keep = []
    for path in sorted(kept):
        layer = chosen.layer_of(path)
        if layer is not None:
            found[layer].inside[os.path.relpath(path, layer)] = kept[path]
            keep.append(path)
    return Arrangement(sorted(found.values(), key=lambda one: -one.path.count("/")), keep)


def holder_of(path: str, places: Container[str]) -> Optional[str]:
    """Return which of `places` is `path` or the nearest directory around it; None if none is."""
    while path not in places:
        if path == "/" or not path.startswith("/"):
            return None
        path = directory_of(path)
    return path


def directory_of(path: str) -> str:
    """Return the directory that the path is in, some three times as fast as os.path.dirname: it is asked for often."""
    return path.rpartition("/")[0] or "/"


def directories_above(paths: Iterable[str]) -> Set[str]:
    """Return all directories that the paths are in, the root directory among them."""
    found: Set[str] = set()
    for path in paths:
        while path != "/":
            path = directory_of(path)
            found.add(path)
    return found


class _Paths:
    """Which layer hides a path."""

    def __init__(self, layers: Collection[str], kept: Collection[str]) -> None:
        self._layers = frozenset(layers)
        self._kept = frozenset(kept)

    def layer_of(self, path: str) -> Optional[str]:
        """Return the layer in which `path` would have to be attached; None if it can be seen, or is not hidden."""
        found: Optional[str] = None
        while path != "/":
            path = directory_of(path)
            if path in self._kept:
                break
            if path in self._layers:
                found = path
        return found
