"""The work of Prefect's command `prefect execute flow-run`, which older agents call `cloud-flow`."""

import importlib
import sys
import traceback
from typing import Any, Callable

from flowherd_runner.errors import NotStarted

#: Prefect's command line ends with it when its command raises, or is interrupted.
_EXIT_FAILED = 1


class CommandFailed(Exception):
    """The command would have ended with `exit_code` for `error`, which it has printed."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error
        self.exit_code = _EXIT_FAILED


def execute() -> None:
    """Load the flow of the run that Prefect's context names and run it; its engine reports what comes of it.

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
    """Of this interpreter's Prefect."""
    return str(getattr(importlib.import_module("prefect"), "__version__", "?"))
