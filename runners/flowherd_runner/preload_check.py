"""Keeps out of the fork server what its runs would share in silence: modules whose import leaves something behind.

An import cannot be undone. So when one has left a connection or a thread, for example, this process replaces itself
(execve(2)) by a fork server without that module, and says so in its ready message. It is still the same process to the
agent, an agent of 0.1.0 included. What has been left out is handed on in a variable, which an earlier version of this
program ignores: it imports the module, as it always did.
"""

import json
import os
import signal
import sys
from typing import Any, Dict, List, NoReturn, Optional

from flowherd_runner import BOOT_FILE, osapi
from flowherd_runner.agent_secrets import inherited, passed_on
from flowherd_runner.contract.variables import LEFT_OUT_VARIABLE
from flowherd_runner.left_open import State, left_since, look

#: Number of descriptions that are passed on of one module.
_MAX_DESCRIPTIONS = 5


class PreloadCheck:
    """Looks at this process around the import of each module. Made before anything of others is imported."""

    def __init__(self, fd: int, names: List[str]) -> None:
        self._fd = fd
        self._names = names
        self._environment = {os.fsencode(name): os.fsencode(value) for name, value in os.environ.items()}
        self._directory = _working_directory()
        self._umask = os.umask(0o077)
        os.umask(self._umask)
        self._before: Optional[State] = None
        #: Modules that an earlier life of this process has found to leave something: see `_entry`.
        self.left_out: Dict[str, Dict[str, Any]] = json.loads(os.environ.pop(LEFT_OUT_VARIABLE, "{}"))

    @property
    def refused(self) -> Dict[str, str]:
        """What each module that is not preloaded would have left."""
        return {name: entry["left"] for name, entry in self.left_out.items()}

    @property
    def failed(self) -> Dict[str, str]:
        """The errors of those modules among them that could not be imported either."""
        return {name: entry["error"] for name, entry in self.left_out.items() if entry["error"] is not None}

    @property
    def files(self) -> List[str]:
        """The files of the modules that were left out; when they change, the modules may have been corrected."""
        return [entry["file"] for entry in self.left_out.values() if entry["file"] is not None]

    def begin(self) -> None:
        """Remember what there is before an import."""
        self._before = look()

    def end(self, name: str, module: str, error: Optional[str]) -> None:
        """Compare after the import of `module`, preloaded as `name`. Does not return when it has left something.

        `error` is why the import failed.
        """
        assert self._before is not None, "begin() comes first"
        left = left_since(self._before, module)
        if left:
            more = ["and {} more".format(len(left) - _MAX_DESCRIPTIONS)] if len(left) > _MAX_DESCRIPTIONS else []
            entry = {"left": ", ".join(left[:_MAX_DESCRIPTIONS] + more), "error": error, "file": _file_of(module)}
            self._start_again({**self.left_out, name: entry})

    def _start_again(self, left_out: Dict[str, Dict[str, Any]]) -> NoReturn:
        assert self._before is not None
        sys.stdout.flush()
        sys.stderr.flush()
        for pid in set(osapi.children()) - self._before.children:
            try:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            except (ProcessLookupError, ChildProcessError):  # a thread of the module has waited for it
                pass
        # What an import can change that execve(2) keeps.
        signal.setitimer(signal.ITIMER_REAL, 0)
        osapi.reset_signals(python=False)
        os.umask(self._umask)
        if self._directory is not None:
            os.chdir(self._directory)
        osapi.close_others({fd: osapi.file_identity(fd) for fd in (self._fd, *inherited())})
        os.set_inheritable(self._fd, True)
        environment = {**self._environment, LEFT_OUT_VARIABLE.encode(): json.dumps(left_out).encode()}
        arguments = ["forkserver", "--fd", str(self._fd), *passed_on()]
        for name in self._names:
            arguments += ["--preload", name]
        os.execve(sys.executable, [sys.executable, BOOT_FILE, *arguments], environment)


def _file_of(module: str) -> Optional[str]:
    found = getattr(sys.modules.get(module), "__file__", None)
    return os.path.abspath(found) if isinstance(found, str) else None


def _working_directory() -> Optional[str]:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return None
