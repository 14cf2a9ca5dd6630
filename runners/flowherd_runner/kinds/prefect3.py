"""A flow of Prefect 3, run in the fork itself by the Prefect of this interpreter.

Its own engine talks to the server and reports the states; its records go through the journal.
"""

import importlib
import logging
import os
import sys
from typing import NoReturn

from flowherd_runner.errors import NotStarted
from flowherd_runner.inprocess import describe_exception, enter, run_and_exit
from flowherd_runner.kinds.flow import Flow
from flowherd_runner.prefect3 import documents, execution, logs, names, reconnecting, settings, termination


def run(flow: Flow) -> NoReturn:
    """Do what `python -m prefect.engine` does. Raises NotStarted when this interpreter has no Prefect 3."""
    enter(flow, ["prefect.engine"])
    sys.path[:0] = flow.spec.import_paths
    importlib.invalidate_caches()
    run_and_exit(flow, lambda: _execute(flow))


def _become_engine(flow: Flow, why: str) -> NoReturn:
    """Let Prefect's own command do it all: slower, and its records come as lines of output as well."""
    flow.sender.record(logging.WARNING, "flowherd", "{}: run by `python -m prefect.engine`".format(why), None)
    os.execve(sys.executable, [sys.executable, "-m", "prefect.engine"], dict(os.environ))


def _execute(flow: Flow) -> None:
    try:
        importlib.import_module("prefect.flow_engine")
    except ImportError as error:
        raise NotStarted("{} cannot import Prefect 3: {}".format(sys.executable, error)) from error
    flow_run_id = execution.flow_run_id()
    try:
        names.check()
    except names.Unknown as unknown:
        _become_engine(flow, str(unknown))
    sys.argv = [str(importlib.import_module("prefect.engine").__file__)]  # what -m makes of it
    asked = termination.Termination()
    asked.install()
    settings.renew()
    reconnecting.from_the_beginning()
    logs.redirect(flow.sender.record, str(flow_run_id))
    try:
        execution.Execution(flow_run_id, documents.Documents(flow.spec.target), asked).execute()
    except SystemExit as ended:
        if ended.code and ended.__context__ is not None:
            flow.sender.send({"exception": describe_exception(ended.__context__)})
        raise
