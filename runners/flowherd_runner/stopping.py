"""Why a runner is asked to end its run, and how it asks the run: the signals that come and those that go."""

import signal
from typing import Any, Dict, NamedTuple, Optional

from flowherd_runner.contract.files import MAX_SECONDS, STOP_FILE, read_json
from flowherd_runner.contract.reasons import REASON_CANCELLED, REASON_TERMINATED, REASON_TIMEOUT
from flowherd_runner.exit_record import Stop, signal_name
from flowherd_runner.osapi import Signal


class PoliteSignal(NamedTuple):
    """What asks a flow process to end, before it is killed."""

    number: int
    #: Whether all that shares its group is asked too.
    to_group: bool
    #: In place of `number` when the run is to end for another reason than that it was cancelled.
    unless_cancelled: Optional[int] = None

    def number_for(self, reason: str) -> int:
        """The signal that asks for an end for that reason."""
        if reason == REASON_CANCELLED or self.unless_cancelled is None:
            return self.number
        return self.unless_cancelled


#: What every program understands.
TERMINATE = PoliteSignal(signal.SIGTERM, to_group=True)
#: For a program that unwinds by itself when its main thread is interrupted, and ends what it has started.
INTERRUPT = PoliteSignal(signal.SIGINT, to_group=False)
#: For one that must know whether it is cancelled: it then says so itself, and of any other end it says nothing.
INTERRUPT_OR_RELEASE = PoliteSignal(signal.SIGINT, to_group=False, unless_cancelled=signal.SIGHUP)


def requested_stop(directory: str, arrived: Signal, grace_s: float) -> Stop:
    """What the signal `arrived` means: the agent's wish when stop.json is there, else somebody else's.

    `grace_s` holds where nobody says otherwise.
    """
    sender = "{} from {}".format(signal_name(arrived.number), _sender(arrived))
    try:
        asked = read_json(directory, STOP_FILE)
        if asked is not None:
            detail = asked.get("detail")
            return Stop(
                reason=str(asked["reason"]),
                evidence="the agent asked for its end ({})".format(sender),
                detail=None if detail is None else str(detail),
                grace_s=_grace_s(asked, grace_s),
            )
        why = "nobody had written why"
    except (OSError, ValueError, TypeError, KeyError) as error:
        why = "{} cannot be read: {}".format(STOP_FILE, error)
    return Stop(REASON_TERMINATED, "the runner got {}; {}".format(sender, why), None, grace_s)


def _grace_s(asked: Dict[str, Any], default_s: float) -> float:
    given_s = asked.get("grace_s", default_s)
    if isinstance(given_s, bool) or not isinstance(given_s, (int, float)) or not 0 <= given_s <= MAX_SECONDS:
        return default_s
    return float(given_s)


def overdue(run_time_s: float, grace_s: float) -> Stop:
    """The run has had its time."""
    return Stop(REASON_TIMEOUT, "the run had not ended after its limit of {:g} s".format(run_time_s), None, grace_s)


def _sender(arrived: Signal) -> str:
    if not arrived.pid:
        return "the kernel or another pid namespace"
    try:
        with open("/proc/{}/comm".format(arrived.pid)) as file:
            name = file.read().strip()
    except OSError:
        name = "gone"
    return "pid {} ({}), uid {}".format(arrived.pid, name, arrived.uid)
