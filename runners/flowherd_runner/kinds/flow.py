"""What a kind is given: the run and the process that was prepared for it."""

from typing import Dict, NamedTuple

from flowherd_runner.contract.spec import RunSpec
from flowherd_runner.logcapture import RecordSender


class Flow(NamedTuple):
    """One flow process, ready for the user's code."""

    spec: RunSpec
    #: Absolute; the process is in it.
    working_dir: str
    #: The run's whole environment; not yet the process's own.
    environment: Dict[str, str]
    #: The way to the runner.
    sender: RecordSender
