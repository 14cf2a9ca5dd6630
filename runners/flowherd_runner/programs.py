"""The command lines of boot.py: which program to run, and with which descriptors.

Imports every module that a runner needs, except those of single kinds, so that no runner that is forked later has to.
The options are read without argparse, which would be in the memory of every run, and with it a dozen other modules.
"""

import os
import sys
from typing import Dict, List, NoReturn, Optional

from flowherd_runner import osapi
from flowherd_runner.agent_secrets import keep_agent_secrets
from flowherd_runner.birth import be_born
from flowherd_runner.contract.identity import is_hidden_when_closed
from flowherd_runner.contract.reasons import FORK_SERVER_BROKEN, RUNNER_BROKEN
from flowherd_runner.fork_server_main import serve
from flowherd_runner.own_errors import open_errors, print_traceback
from flowherd_runner.runner import run

_USAGE = """\
usage: boot.py forkserver --fd N [--secrets-fd N] [--preload MODULE]...
       boot.py runner --directory DIRECTORY --lock-fd N [--go-fd N] [--secrets-fd N] [--apart 1]
       boot.py here --directory DIRECTORY
       boot.py check --directory DIRECTORY --fd N
       boot.py isolation --directory DIRECTORY --fd N
The child side of flowherd; started by its agent, the last three by its commands too. N is a descriptor:
this end of a SOCK_SEQPACKET pair, the run's lock, the socket on which the agent says that the run
is to be started, the file with the agent's credentials, or what is written to. --apart 1: its
processes get a pid namespace.
"""
#: The options of each program, and whether they are numbers.
_OPTIONS = {
    "forkserver": {"--fd": True, "--secrets-fd": True, "--preload": False},
    "runner": {"--directory": False, "--lock-fd": True, "--go-fd": True, "--secrets-fd": True, "--apart": True},
    "here": {"--directory": False},
    "check": {"--directory": False, "--fd": True},
    "isolation": {"--directory": False, "--fd": True},
}
_OPTIONAL = ("--preload", "--go-fd", "--secrets-fd", "--apart")
#: Programs whose memory no other process of this user may read; the others become the user's own code.
_CLOSED = ("forkserver", "runner")


def run_program(arguments: List[str]) -> NoReturn:
    """Run the program that `arguments` name, and exit with its exit code."""
    program, options = arguments[0] if arguments else "", _options(arguments)
    if program in _CLOSED and not is_hidden_when_closed():
        osapi.forbid_inspection()
    keep_agent_secrets(_number(options, "--secrets-fd"))
    broken = RUNNER_BROKEN
    try:
        if program == "forkserver":
            broken = FORK_SERVER_BROKEN
            serve(int(options["--fd"][-1]), options["--preload"])
        if program in ("here", "check"):
            _without_runner(program, options)
        if program == "isolation":
            from flowherd_runner.isolation.trial import try_all  # no runner needs it

            try_all(options["--directory"][-1], int(options["--fd"][-1]))
        lock_fd, go_fd = int(options["--lock-fd"][-1]), _number(options, "--go-fd")
        directory = options["--directory"][-1]
        open_errors(directory)
        newborn = be_born(kept_fds={}, apart=options["--apart"][-1:] == ["1"])
        os._exit(run(directory, lock_fd, go_fd, newborn))
    except Exception:  # the outermost boundary of the program; stderr is a file that the agent reads
        print_traceback()
    os._exit(broken)


def _number(options: Dict[str, List[str]], name: str) -> Optional[int]:
    """Return the value of an option; None if it is not given."""
    return int(options[name][-1]) if options.get(name) else None


def _without_runner(program: str, options: Dict[str, List[str]]) -> None:
    from flowherd_runner.without_runner import check, run_here  # no runner needs it

    directory = options["--directory"][-1]
    if program == "here":
        run_here(directory)
    check(directory, int(options["--fd"][-1]))


def _options(arguments: List[str]) -> Dict[str, List[str]]:
    """Return the values of each option. Exits with a message if the command line is no such."""
    known = _OPTIONS.get(arguments[0] if arguments else "", {})
    found: Dict[str, List[str]] = {name: [] for name in known}
    given = arguments[1:]
    for name, value in zip(given[::2], given[1::2]):
        if name not in known or (known[name] and not value.isdigit()):
            _refuse("not an option with its value: {} {}".format(name, value))
        found[name].append(value)
    missing = [name for name in found if not found[name] and name not in _OPTIONAL]
    if missing or not known or len(given) % 2:
        _refuse("missing: {}".format(", ".join(missing) or "a program, or the value of its last option"))
    return found


def _refuse(why: str) -> NoReturn:
    sys.stderr.write("{}{}\n".format(_USAGE, why))
    sys.exit(FORK_SERVER_BROKEN)
