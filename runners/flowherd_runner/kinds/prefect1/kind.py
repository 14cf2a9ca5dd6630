"""A flow of Prefect 0.x or 1.x, run in the fork itself by the Prefect of this interpreter.

Its own engine talks to the backend and reports the states; its records go through the journal.
"""

import importlib
import sys
from typing import NoReturn

from flowherd_runner.errors import NotStarted
from flowherd_runner.inprocess import describe_exception, enter, run_and_exit
from flowherd_runner.kinds.flow import Flow
from flowherd_runner.kinds.prefect1 import configuration, execute_flow_run, masked_secrets, spawned_processes
from flowherd_runner.kinds.prefect1.interruption import Interruption


def run(flow: Flow) -> NoReturn:
    """Do what `prefect execute flow-run` does. Raises NotStarted when this interpreter has no Prefect that can."""
    enter(flow, ["prefect", "execute", "flow-run"])
    sys.path[:0] = [flow.working_dir, *flow.spec.import_paths]
    importlib.invalidate_caches()
    run_and_exit(flow, lambda: _execute(flow))


def _execute(flow: Flow) -> None:
    _prepare(flow)
    interruption = Interruption()
    interruption.install()
    try:
        execute_flow_run.execute()
    except execute_flow_run.CommandFailed as failed:
        flow.sender.send({"exception": describe_exception(failed.error)})
        sys.exit(failed.exit_code)
    finally:
        interruption.pass_on()


def _prepare(flow: Flow) -> None:
    """Make Prefect this run's own."""
    try:
        importlib.import_module("prefect.cli.execute")
    except ImportError as error:
        raise NotStarted("{} cannot import Prefect: {}".format(sys.executable, error)) from error
    configuration.renew()
    masked_secrets.mask(flow.sender)
    spawned_processes.arrange(flow.sender)
    spawned_processes.include(flow.sender)
