"""What makes a kind of run: how it is carried out, what it is given, and the error by which it gives up."""

from typing import Callable, Dict, NamedTuple, NoReturn, Optional

from flowherd_runner.contract.spec import RunSpec
from flowherd_runner.output_segments import Segments
from flowherd_runner.record_sender import RecordSender
from flowherd_runner.stopping import TERMINATE, PoliteSignal


class NotStarted(Exception):
    """The user's code could not be reached; the text becomes the evidence in exit.json."""


class FlowProcess(NamedTuple):
    """The prepared process of a run, in which only the user's code is missing."""

    spec: RunSpec
    #: Absolute path; the current directory of the process.
    working_dir: str
    #: The run's whole environment, which is not yet that of the process.
    environment: Dict[str, str]
    #: For logging records and messages to the runner.
    sender: RecordSender
    #: Memory for output that comes quickly; None without.
    segments: Optional[Segments] = None


class Kind(NamedTuple):
    """How the runs of one kind are carried out."""

    #: Becomes the user's code in the prepared process. Raises NotStarted when the code cannot be reached.
    run: Callable[[FlowProcess], NoReturn]
    #: Whether the user's code runs in the fork itself, and so needs what the interpreter had set up.
    in_fork: bool
    #: The signal that asks the flow process to end.
    stop: PoliteSignal = TERMINATE
    #: Does what can be done before it is certain that the run is to be started, which is no user code, and returns what
    #: does the rest in place of `run`. Raises NotStarted. None: there is nothing of that sort.
    prepare: Optional[Callable[[FlowProcess], Callable[[], NoReturn]]] = None
