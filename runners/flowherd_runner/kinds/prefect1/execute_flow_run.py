"""Executes the flow run as Prefect's command `prefect execute flow-run` does; older versions call it `cloud-flow`."""

import importlib
import sys
import traceback
from typing import Any, Callable

from flowherd_runner.kinds.definition import NotStarted

#: Exit code of Prefect's command line when its command raises or is interrupted.
_EXIT_FAILED = 1


class CommandFailed(Exception):
    """The command has printed `error` and would have ended with `exit_code`."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error
        self.exit_code = _EXIT_FAILED


def execute() -> None:
    """Load and run the flow of the run that Prefect's context names; its engine reports the result.

    Raises CommandFailed when Prefect's command fails or is interrupted, NotStarted when there is no such command.
    """
    command = _command()
    try:
        command()
    except KeyboardInterrupt as error:
        print("Aborted!", file=sys.stderr)
        raise CommandFailed(error)
    except Exception as error:
        traceback.print_exc()
        raise CommandFailed(error)


def _command() -> Callable[[], Any]:
    module = importlib.import_module("prefect.cli.execute")
    command = getattr(module, "flow_run", None) or getattr(module, "cloud_flow", None)
    body = getattr(command, "callback", None)
    if not callable(body):
        raise NotStarted("Prefect {} has no command to execute a flow run".format(version()))
    return body  # type: ignore[no-any-return]


def version() -> str:
    """Return the version of this interpreter's Prefect."""
    return str(getattr(importlib.import_module("prefect"), "__version__", "?"))
