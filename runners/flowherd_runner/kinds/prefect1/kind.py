"""Runs a flow of Prefect 0.x or 1.x in the fork itself, with the Prefect of this interpreter.

Its engine talks to the backend and reports the states; its log records go through the journal.
"""

import importlib
import sys
from functools import partial
from typing import Callable, NoReturn

from flowherd_runner.contract.variables import KIND_PREFECT
from flowherd_runner.in_fork import describe_exception, enter, run_and_exit
from flowherd_runner.kinds.definition import FlowProcess, Kind, NotStarted
from flowherd_runner.kinds.prefect1 import configuration, execute_flow_run, masked_secrets, spawned_processes
from flowherd_runner.kinds.prefect1.interruption import Interruption
from flowherd_runner.kinds.prefect1.unreported import Unreported
from flowherd_runner.stopping import INTERRUPT


def run(flow: FlowProcess) -> NoReturn:
    """Do what `prefect execute flow-run` does. Raises NotStarted when this interpreter has no Prefect for that."""
    prepare(flow)()


def prepare(flow: FlowProcess) -> Callable[[], NoReturn]:
    """Make the interpreter the run's, and return the rest of `run`."""
    enter(flow, ["prefect", "execute", "flow-run"])
    sys.path[:0] = [flow.working_dir, *flow.spec.import_paths]
    importlib.invalidate_caches()
    return partial(run_and_exit, flow, partial(_execute, flow))


KINDS = {KIND_PREFECT: Kind(run, in_fork=True, stop=INTERRUPT, prepare=prepare)}


def _execute(flow: FlowProcess) -> None:
    _prepare(flow)
    interruption = Interruption()
    interruption.install()
    unreported = Unreported()
    unreported.watch()
    try:
        execute_flow_run.execute()
        if unreported.error is not None:
            cause = describe_exception(unreported.error)
            cause["message"] += " (Prefect's engine could not set the flow run's state)"
            flow.sender.send({"exception": cause})
    except execute_flow_run.CommandFailed as failed:
        flow.sender.send({"exception": describe_exception(failed.error)})
        sys.exit(failed.exit_code)
    finally:
        interruption.pass_on()


def _prepare(flow: FlowProcess) -> None:
    """Give Prefect this run's configuration and logging."""
    try:
        importlib.import_module("prefect.cli.execute")
    except ImportError as error:
        raise NotStarted("{} cannot import Prefect: {}".format(sys.executable, error)) from error
    configuration.renew()
    masked_secrets.mask(flow.sender)
    spawned_processes.adjust(flow.sender)
    spawned_processes.include(flow.sender)
