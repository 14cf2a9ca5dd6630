"""Starts a runner by exec, from a fork server that has threads: a fork of it could do nothing else safely."""

import os
import sys
import warnings
from typing import NoReturn

from flowherd_runner import BOOT_FILE
from flowherd_runner.agent_secrets import passed_on
from flowherd_runner.start_requests import StartRequest


def become_runner(asked: StartRequest) -> NoReturn:
    """In the fork: become the runner of that run. Every other descriptor is closed on exec."""
    arguments = ["runner", "--directory", asked.directory, "--lock-fd", str(asked.lock_fd)]
    os.set_inheritable(asked.lock_fd, True)
    if asked.go_fd is not None:
        os.set_inheritable(asked.go_fd, True)
        arguments += ["--go-fd", str(asked.go_fd)]
    if asked.apart:
        arguments += ["--apart", "1"]
    os.execv(sys.executable, [sys.executable, BOOT_FILE, *arguments, *passed_on()])


def fork_despite_threads() -> int:
    """Fork without the warning of 3.12; the child becomes another program, which has no use for these filters."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()
