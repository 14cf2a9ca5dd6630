"""What a run as another user has of its own: a working directory that it can reach, and the environment of a login."""

import ctypes
import importlib
import os
import pwd
import re
import stat
from fnmatch import fnmatchcase
from typing import Dict, Mapping, Optional, Sequence

from flowherd_runner.contract.variables import RUN_ID_VARIABLE
from flowherd_runner.kinds.definition import NotStarted

_WORK_DIRECTORY = "work"
#: PATH of a login, if that of the agent is not passed on (login.defs(5), ENV_PATH, and /usr/local/bin).
_LOGIN_PATH = "/usr/local/bin:/usr/bin:/bin"
#: A URL with a user's password, as proxies have it.
_CREDENTIALS = re.compile(r"//[^/@\s]*@")
#: Everybody may go through the directory of all users' working directories, and nobody may list it.
_PASSAGE_MODE = 0o711
#: What many flows import, and may not be able to as another user.
_COMMON_MODULES = (
    "argparse",
    "asyncio",
    "collections",
    "csv",
    "datetime",
    "decimal",
    "glob",
    "hashlib",
    "json",
    "logging",
    "pathlib",
    "random",
    "shutil",
    "sqlite3",
    "subprocess",
    "tempfile",
    "uuid",
)


def login_environment(base: Mapping[str, str], user: pwd.struct_passwd, allowed: Sequence[str]) -> Dict[str, str]:
    """Return what a login gives to `user`, and those variables of `base` whose names are allowed.

    Values that contain the credentials of a URL are left out.
    """
    kept = {
        name: value
        for name, value in base.items()
        if any(fnmatchcase(name, pattern) for pattern in allowed) and not _CREDENTIALS.search(value)
    }
    kept.setdefault("PATH", _LOGIN_PATH)
    kept.update(HOME=user.pw_dir, USER=user.pw_name, LOGNAME=user.pw_name, SHELL=user.pw_shell or "/bin/sh")
    return kept


def forget_others(environment: Mapping[str, str]) -> None:
    """Make this process forget the variables that it has and `environment` does not.

    Also in the memory that /proc/self/environ shows, which is the fork server's, and which the other user may read.
    """
    place = _environment_place()
    for name, value in list(os.environ.items()):
        if environment.get(name) != value:
            del os.environ[name]  # before the memory is changed, because unsetenv(3) looks for the name there
    if place is None:
        return
    start, end = place
    position = start
    while position < end:
        entry = ctypes.string_at(position)
        name = os.fsdecode(entry.partition(b"=")[0])
        if name != RUN_ID_VARIABLE and environment.get(name) != os.fsdecode(entry.partition(b"=")[2]):
            ctypes.memset(position, 0, len(entry))
        position += len(entry) + 1


def _environment_place() -> Optional[Sequence[int]]:
    """Return where the memory of the first environment begins and ends (proc(5), stat: env_start, env_end)."""
    try:
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        # The first field after the name is number 3.
        return int(fields[50 - 3]), int(fields[51 - 3])
    except (OSError, ValueError, IndexError):
        return None


def import_for(user: pwd.struct_passwd) -> Optional[str]:
    """Import common modules if `user` may not read the interpreter's library; called before the user changes.

    Return what the run's log should say of it; None if the user may read the library.
    """
    library = os.path.dirname(os.__file__)
    own_group, own_user = os.getegid(), os.geteuid()
    os.setegid(user.pw_gid)
    os.seteuid(user.pw_uid)
    try:
        may_read = os.access(library, os.R_OK | os.X_OK, effective_ids=True)
    finally:
        os.seteuid(own_user)
        os.setegid(own_group)
    if may_read:
        return None
    for name in _COMMON_MODULES:
        try:
            importlib.import_module(name)
        except ImportError:  # an interpreter may lack some
            continue
    text = "user {} may not read {}: only modules that are loaded already can be imported, and common ones"
    return text.format(user.pw_name, library)


def enter_own_directory(directory: str, outside: Optional[str], user: Optional[pwd.struct_passwd]) -> str:
    """Make the run's own working directory, enter it, and return its path; called before the user changes.

    For another user it is `outside`, because no other user can enter anything below `directory` by its path. If that
    cannot be made, it is below `directory` all the same, where relative paths work.
    """
    if user is not None and outside is not None:
        try:
            _make_passage(os.path.dirname(outside))
            return _made_and_entered(outside, user)
        except OSError:
            pass
    path = os.path.join(directory, _WORK_DIRECTORY)
    try:
        return _made_and_entered(path, user)
    except OSError as error:
        raise NotStarted("the working directory {} cannot be made: {}".format(path, error.strerror)) from error


def _make_passage(path: str) -> None:
    """Make a directory of root's that everybody may go through, and those above it. Raises OSError.

    Not os.makedirs, which leaves the modes to the umask.
    """
    if not os.path.isdir(os.path.dirname(path)):
        _make_passage(os.path.dirname(path))
    try:
        os.mkdir(path)
        os.chmod(path, _PASSAGE_MODE)
    except FileExistsError:
        pass
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise OSError("{} is not a directory in which only this user may make entries".format(path))


def _made_and_entered(path: str, user: Optional[pwd.struct_passwd]) -> str:
    os.makedirs(path, mode=0o700, exist_ok=True)
    if user is not None:
        os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
    os.chdir(path)
    return path
