"""The directories of a run on the disk that take the places of /tmp and /var/tmp: below its run directory.

The flow process makes them before its mounts. When all processes of the run have ended, so have the mounts, and the
agent removes the directories (flowherd/host/run_remains.py), so that no end waits for it.
"""

import os
import stat
from typing import Iterator, List, Mapping, Optional, Tuple

from flowherd_runner.contract.files import PRIVATE_DIRECTORY

NAME = PRIVATE_DIRECTORY
TMP = "tmp"
VAR_TMP = "var-tmp"
#: What a run has of its own, and the private place that is its; None: memory.
REPLACED: Mapping[str, Optional[str]] = {
    "/tmp": TMP,
    "/var/tmp": VAR_TMP,
    "/dev/shm": None,
}
#: Everybody may make entries, and only remove their own, as in /tmp itself.
_TMP_MODE = 0o1777
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def make(directory: str) -> str:
    """Make them empty in the run directory, and return the path of the directory that holds them. Raises OSError."""
    path = os.path.join(directory, NAME)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:  # the directory is started a second time
        remove(directory)
        os.mkdir(path, 0o700)
    for name in (TMP, VAR_TMP):
        os.mkdir(os.path.join(path, name))
        os.chmod(os.path.join(path, name), _TMP_MODE)
    return path


def make_own_directory(parent: str, name: str, owner: Optional[Tuple[int, int]]) -> None:
    """Make a directory that only `owner`, a user and a group, may enter; None: this process's user. Raises OSError."""
    path = os.path.join(parent, name)
    os.mkdir(path, 0o700)
    if owner is not None:
        os.chown(path, *owner)


def remove(directory: str) -> Optional[OSError]:
    """Remove them with all that is in them; return the first error, None if there was none.

    Directories that are closed are opened first, and no link is followed. A directory in a directory is moved to the
    top before it is emptied, so that no tree is too deep.
    """
    path = os.path.join(directory, NAME)
    try:
        top = os.open(path, _DIRECTORY)
    except FileNotFoundError:
        return None
    except OSError as error:
        return error
    try:
        first = _empty(top)
    finally:
        os.close(top)
    try:
        os.rmdir(path)
    except OSError as error:
        return first or error
    return first


def _empty(top: int) -> Optional[OSError]:
    """Remove all entries of the directory `top`, and return the first error."""
    errors: List[OSError] = []
    left = os.listdir(top)
    moved = 0
    while left:
        name = left.pop()
        try:
            if _is_directory(name, top):
                for found in _lift(name, top, moved, errors):
                    moved += 1
                    left.append(found)
                os.rmdir(name, dir_fd=top)
            else:
                os.unlink(name, dir_fd=top)
        except OSError as error:
            errors.append(error)
    return errors[0] if errors else None


def _lift(name: str, top: int, moved: int, errors: List[OSError]) -> Iterator[str]:
    """Empty the directory `name` of `top`: its directories are moved to `top`, and their new names are yielded."""
    fd = _opened(name, top)
    try:
        for entry in os.listdir(fd):
            try:
                if _is_directory(entry, fd):
                    moved += 1
                    os.close(_opened(entry, fd))  # one that is closed cannot be moved either
                    os.rename(entry, ".{}".format(moved), src_dir_fd=fd, dst_dir_fd=top)
                    yield ".{}".format(moved)
                else:
                    os.unlink(entry, dir_fd=fd)
            except OSError as error:
                errors.append(error)
    finally:
        os.close(fd)


def _is_directory(name: str, parent: int) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)


def _opened(name: str, parent: int) -> int:
    """Open the directory, and give its owner all rights to it, without which its entries cannot be removed."""
    try:
        fd = os.open(name, _DIRECTORY, dir_fd=parent)
    except PermissionError:
        # Not os.chmod with the name, which would follow a link that has taken its place.
        path = os.open(name, os.O_PATH | _DIRECTORY, dir_fd=parent)
        try:
            os.chmod("/proc/self/fd/{}".format(path), 0o700)
        finally:
            os.close(path)
        return os.open(name, _DIRECTORY, dir_fd=parent)
    if os.fstat(fd).st_mode & 0o700 != 0o700:
        os.fchmod(fd, 0o700)
    return fd
