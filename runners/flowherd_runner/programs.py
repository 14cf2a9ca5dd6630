"""The command lines of boot.py: which program to be, and with which descriptors.

Imports every module that a runner needs, so that a runner forked later pays for no import.
"""

import argparse
import os
import sys
import traceback
from typing import List, NoReturn

from flowherd_runner.agent_secrets import take_agent_secrets
from flowherd_runner.contract.reasons import FORK_SERVER_BROKEN, RUNNER_BROKEN
from flowherd_runner.forkserver import serve
from flowherd_runner.runner import run


def run_program(arguments: List[str]) -> NoReturn:
    """Be the program that `arguments` name, and leave with its exit code."""
    options = _options(arguments)
    take_agent_secrets()
    broken = RUNNER_BROKEN
    try:
        if options.program == "forkserver":
            broken = FORK_SERVER_BROKEN
            serve(options.fd, options.preload)
        os._exit(run(options.directory, options.lock_fd, kept_fds={}))
    except Exception:  # the program's outermost boundary; stderr is a file that the agent reads
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(broken)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(FORK_SERVER_BROKEN, "{}: {}\n".format(self.prog, message))


def _options(arguments: List[str]) -> argparse.Namespace:
    parser = _Parser(prog="flowherd_runner", description="The child side of flowherd; started by its agent.")
    programs = parser.add_subparsers(dest="program", parser_class=_Parser)
    programs.required = True
    server = programs.add_parser("forkserver", help="fork a runner for each request")
    server.add_argument("--fd", type=int, required=True, help="this end of the SOCK_SEQPACKET pair")
    server.add_argument("--preload", action="append", default=[], metavar="MODULE", help="import before the first fork")
    runner = programs.add_parser("runner", help="run the one flow run of a directory")
    runner.add_argument("--directory", required=True, help="the run's directory")
    runner.add_argument("--lock-fd", type=int, required=True, help="descriptor of its lock, locked")
    return parser.parse_args(arguments)
