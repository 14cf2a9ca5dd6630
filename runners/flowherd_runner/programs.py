"""The command lines of boot.py: which program to run, and with which descriptors.

Imports every module that a runner needs, except those of single kinds, so that no runner that is forked later has to.
"""

import argparse
import os
import sys
from typing import List, NoReturn

from flowherd_runner.agent_secrets import take_agent_secrets
from flowherd_runner.contract.reasons import FORK_SERVER_BROKEN, RUNNER_BROKEN
from flowherd_runner.fork_server_main import serve
from flowherd_runner.own_errors import print_traceback
from flowherd_runner.runner import run


def run_program(arguments: List[str]) -> NoReturn:
    """Run the program that `arguments` name, and exit with its exit code."""
    options = _options(arguments)
    take_agent_secrets()
    broken = RUNNER_BROKEN
    try:
        if options.program == "forkserver":
            broken = FORK_SERVER_BROKEN
            serve(options.fd, options.preload)
        os._exit(run(options.directory, options.lock_fd, kept_fds={}))
    except Exception:  # the outermost boundary of the program; stderr is a file that the agent reads
        print_traceback()
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
