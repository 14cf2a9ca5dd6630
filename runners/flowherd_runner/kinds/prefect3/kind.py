"""Runs a flow of Prefect 3 in the fork itself, with the Prefect of this interpreter, or a command in its place.

Its engine talks to the server and reports the states; its log records go through the journal.
"""

import contextlib
import importlib
import logging
import os
import sys
from functools import partial
from typing import Callable, Iterator, List, NoReturn
from uuid import UUID

from flowherd_runner import osapi
from flowherd_runner.contract.variables import KIND_PREFECT3, KIND_PREFECT3_COMMAND, KIND_PREFECT3_HOOKS
from flowherd_runner.in_fork import describe_exception, enter, run_and_exit
from flowherd_runner.kinds.command import argv_of, become, command_environment
from flowherd_runner.kinds.definition import FlowProcess, Kind, NotStarted
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
from flowherd_runner.record_sender import flush_streams
from flowherd_runner.stopping import INTERRUPT_OR_RELEASE


def run(flow: FlowProcess) -> NoReturn:
    """Do what `python -m prefect.engine` does. Raises NotStarted when this interpreter has no Prefect 3."""
    prepare(flow)()


def prepare(flow: FlowProcess) -> Callable[[], NoReturn]:
    """Make the interpreter the run's, and return the rest of `run`."""
    _begin(flow)
    return partial(run_and_exit, flow, partial(_execute, flow))


def run_command(flow: FlowProcess) -> NoReturn:
    """Fetch the code as for a flow run, and become the command there.

    Prefect's process worker does this from 3.8 on; earlier workers leave the code to the command. Raises NotStarted
    when this interpreter has no Prefect 3.
    """
    _begin(flow)
    run_and_exit(flow, lambda: _become_command(flow))


def run_hooks(flow: FlowProcess) -> NoReturn:
    """Call the hooks of a run whose process was killed. Raises NotStarted when this interpreter has no Prefect 3."""
    _begin(flow)
    run_and_exit(flow, lambda: _call_hooks(flow))


KINDS = {
    KIND_PREFECT3: Kind(run, in_fork=True, stop=INTERRUPT_OR_RELEASE, prepare=prepare),
    KIND_PREFECT3_COMMAND: Kind(run_command, in_fork=True),
    KIND_PREFECT3_HOOKS: Kind(run_hooks, in_fork=True),
}


def _begin(flow: FlowProcess) -> None:
    enter(flow, ["prefect.engine"])
    sys.path[:0] = flow.spec.import_paths
    importlib.invalidate_caches()


def _become_command(flow: FlowProcess) -> NoReturn:
    flow_run_id = _flow_run_id()
    argv = argv_of(flow.spec.target)
    try:
        prefect_compat.check()
    except prefect_compat.Unknown as unknown:
        text = "{}: the command is run without the flow's code, as by Prefect's workers before 3.8"
        flow.sender.record(logging.WARNING, "flowherd", text.format(unknown), None)
    else:
        _renew_prefect(flow, flow_run_id)
        with _cause_reported(flow):
            execute_flow_run.fetch(flow_run_id, known_documents.Documents(flow.spec.target))
    flush_streams()
    osapi.reset_signals(python=False)
    become(argv, command_environment(os.environ, flow.spec.import_paths))


def _call_hooks(flow: FlowProcess) -> None:
    flow_run_id = _flow_run_id()
    prefect_compat.check()
    _renew_prefect(flow, flow_run_id)
    execute_flow_run.call_hooks(flow_run_id, known_documents.Documents(flow.spec.target))


@contextlib.contextmanager
def _cause_reported(flow: FlowProcess) -> Iterator[None]:
    """Make the exception for which Prefect's code ends the process the run's end: an exit code would say nothing."""
    try:
        yield
    except SystemExit as ended:
        cause = ended.__context__
        if isinstance(cause, NotStarted):
            raise cause from None
        if ended.code and cause is not None:
            flow.sender.send({"exception": describe_exception(cause)})
        raise


def _become_engine(flow: FlowProcess, why: str) -> NoReturn:
    """Become Prefect's own command, which does it all: slower, and its records are lines of output as well."""
    flow.sender.record(logging.WARNING, "flowherd", "{}: run by `python -m prefect.engine`".format(why), None)
    os.execve(sys.executable, [sys.executable, "-m", "prefect.engine"], dict(os.environ))


def _flow_run_id() -> UUID:
    try:
        importlib.import_module("prefect.flow_engine")
    except ImportError as error:
        raise NotStarted("{} cannot import Prefect 3: {}".format(sys.executable, error)) from error
    return execute_flow_run.flow_run_id()


def _renew_prefect(flow: FlowProcess, flow_run_id: UUID) -> None:
    """Give Prefect this run's settings and logging."""
    run_settings.renew()
    reconnecting.retry_first_requests()
    log_records.redirect(flow.sender.record, str(flow_run_id))
    secret_blocks.mask(flow.sender)


def _execute(flow: FlowProcess) -> None:
    flow_run_id = _flow_run_id()
    try:
        prefect_compat.check()
    except prefect_compat.Unknown as unknown:
        _become_engine(flow, str(unknown))
    sys.argv = [str(importlib.import_module("prefect.engine").__file__)]  # as with -m
    requested = termination.Termination()
    requested.install()
    _renew_prefect(flow, flow_run_id)

    def loaded(hooks: List[str]) -> None:
        if hooks:
            flow.sender.send({"after_end": hooks})

    with _cause_reported(flow):
        documents = known_documents.Documents(flow.spec.target)
        execute_flow_run.Execution(flow_run_id, documents, requested, loaded).execute()
