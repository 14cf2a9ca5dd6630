"""The kinds of run, by the name that spec.json gives them. A new kind is a module here and a line in KINDS."""

from typing import Callable, Dict, NamedTuple, NoReturn

from flowherd_runner.contract.variables import (
    KIND_COMMAND,
    KIND_PREFECT,
    KIND_PREFECT3,
    KIND_PREFECT3_COMMAND,
    KIND_PYTHON,
)
from flowherd_runner.kinds import command, python
from flowherd_runner.kinds.flow import Flow
from flowherd_runner.kinds.prefect1 import kind as prefect1
from flowherd_runner.kinds.prefect3 import kind as prefect3
from flowherd_runner.stopping import INTERRUPT, INTERRUPT_OR_RELEASE, TERMINATE, PoliteSignal


class Kind(NamedTuple):
    """How runs of one kind are carried out."""

    #: Becomes the user's code in the prepared process; raises NotStarted when that cannot be reached.
    run: Callable[[Flow], NoReturn]
    #: Whether the user's code runs in the fork itself, and so wants what the interpreter had set up.
    in_fork: bool
    #: What asks it to end.
    stop: PoliteSignal = TERMINATE


KINDS: Dict[str, Kind] = {
    KIND_COMMAND: Kind(command.run, in_fork=False),
    KIND_PREFECT: Kind(prefect1.run, in_fork=True, stop=INTERRUPT),
    KIND_PREFECT3: Kind(prefect3.run, in_fork=True, stop=INTERRUPT_OR_RELEASE),
    KIND_PREFECT3_COMMAND: Kind(prefect3.run_command, in_fork=True),
    KIND_PYTHON: Kind(python.run, in_fork=True),
}
