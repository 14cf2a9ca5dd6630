"""A flow of Prefect 3, run in the fork itself by the Prefect of this interpreter.

Its own engine talks to the server and reports the states; its records go through the journal.
"""

import importlib
import logging
import os
import sys
from typing import NoReturn
from uuid import UUID

from flowherd_runner import osapi
from flowherd_runner.errors import NotStarted
from flowherd_runner.inprocess import describe_exception, enter, run_and_exit
from flowherd_runner.kinds.command import argv_of, become, command_environment
from flowherd_runner.kinds.flow import Flow
from flowherd_runner.kinds.prefect3 import (
    execute_flow_run,
    known_documents,
    log_records,
    prefect_compat,
    reconnecting,
    run_settings,
    secret_blocks,
    termination,
)
from flowherd_runner.logcapture import flush_streams


def run(flow: Flow) -> NoReturn:
    """Do what `python -m prefect.engine` does. Raises NotStarted when this interpreter has no Prefect 3."""
    _begin(flow)
    run_and_exit(flow, lambda: _execute(flow))


def run_command(flow: Flow) -> NoReturn:
    """Put the code where a flow of it would be run, and be the command there. Raises NotStarted likewise.

    As Prefect's process worker does from 3.8 on; the workers before leave the code to the command.
    """
    _begin(flow)
    run_and_exit(flow, lambda: _become_command(flow))


def _begin(flow: Flow) -> None:
    enter(flow, ["prefect.engine"])
    sys.path[:0] = flow.spec.import_paths
    importlib.invalidate_caches()


def _become_command(flow: Flow) -> NoReturn:
    flow_run_id = _flow_run_id()
    argv = argv_of(flow.spec.target)
    _make_own(flow, flow_run_id)
    execute_flow_run.fetch(flow_run_id, known_documents.Documents(flow.spec.target))
    flush_streams()
    osapi.reset_signals(python=False)
    become(argv, command_environment(os.environ, flow.spec.import_paths))


def _become_engine(flow: Flow, why: str) -> NoReturn:
    """Let Prefect's own command do it all: slower, and its records come as lines of output as well."""
    flow.sender.record(logging.WARNING, "flowherd", "{}: run by `python -m prefect.engine`".format(why), None)
    os.execve(sys.executable, [sys.executable, "-m", "prefect.engine"], dict(os.environ))


def _flow_run_id() -> UUID:
    try:
        importlib.import_module("prefect.flow_engine")
    except ImportError as error:
        raise NotStarted("{} cannot import Prefect 3: {}".format(sys.executable, error)) from error
    return execute_flow_run.flow_run_id()


def _make_own(flow: Flow, flow_run_id: UUID) -> None:
    """Make Prefect this run's own."""
    run_settings.renew()
    reconnecting.from_the_beginning()
    log_records.redirect(flow.sender.record, str(flow_run_id))
    secret_blocks.mask(flow.sender)


def _execute(flow: Flow) -> None:
    flow_run_id = _flow_run_id()
    try:
        prefect_compat.check()
    except prefect_compat.Unknown as unknown:
        _become_engine(flow, str(unknown))
    sys.argv = [str(importlib.import_module("prefect.engine").__file__)]  # what -m makes of it
    asked = termination.Termination()
    asked.install()
    _make_own(flow, flow_run_id)
    try:
        execute_flow_run.Execution(flow_run_id, known_documents.Documents(flow.spec.target), asked).execute()
    except SystemExit as ended:
        if ended.code and ended.__context__ is not None:
            flow.sender.send({"exception": describe_exception(ended.__context__)})
        raise
