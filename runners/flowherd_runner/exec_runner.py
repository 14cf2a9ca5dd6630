"""Starts a runner by exec, from a fork server that has threads: a fork of it could do nothing else safely."""

import os
import sys
import warnings
from typing import NoReturn, Optional

from flowherd_runner import BOOT_FILE
from flowherd_runner.agent_secrets import environment_with_secrets


def become_runner(directory: str, lock_fd: int, go_fd: Optional[int]) -> NoReturn:
    """In the fork: become the runner of `directory`. Every other descriptor is closed on exec."""
    arguments = ["runner", "--directory", directory, "--lock-fd", str(lock_fd)]
    os.set_inheritable(lock_fd, True)
    if go_fd is not None:
        os.set_inheritable(go_fd, True)
        arguments += ["--go-fd", str(go_fd)]
    os.execve(sys.executable, [sys.executable, BOOT_FILE, *arguments], environment_with_secrets())


def fork_despite_threads() -> int:
    """Fork without the warning of 3.12; the child becomes another program, which has no use for these filters."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()
