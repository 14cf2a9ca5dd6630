"""Ends a run on request or when its time is up: first by a polite signal, then by SIGKILL.

A flow process that lives on after that, because it may not be signalled or hangs in the kernel, is given up.

The reason comes from stop.json when the agent asked, and from the signal itself when another process did.
"""

import signal
import time
from typing import Any, Callable, Dict, NamedTuple, Optional

from flowherd_runner.contract.files import MAX_SECONDS, STOP_FILE, read_json
from flowherd_runner.contract.identity import may_not_signal
from flowherd_runner.contract.reasons import REASON_CANCELLED, REASON_TERMINATED, REASON_TIMEOUT
from flowherd_runner.exit_record import Stop, signal_name
from flowherd_runner.flow_group import signal_group
from flowherd_runner.osapi import Signal
from flowherd_runner.run_processes import describe, find

#: How long a flow process that may not be signalled has to end once everything else of its group was killed, seconds.
_REFUSED_S = 1.0
#: How long a flow process has to end after SIGKILL, seconds; longer than that it hangs in the kernel.
_HUNG_S = 10.0


class PoliteSignal(NamedTuple):
    """The signal that asks a flow process to end, before it is killed."""

    number: int
    #: Whether the whole process group gets it.
    to_group: bool
    #: Used in place of `number` when the run ends for another reason than that it was cancelled.
    unless_cancelled: Optional[int] = None

    def number_for(self, reason: str) -> int:
        """Return the signal that asks for an end for that reason."""
        if reason == REASON_CANCELLED or self.unless_cancelled is None:
            return self.number
        return self.unless_cancelled


#: What every program understands.
TERMINATE = PoliteSignal(signal.SIGTERM, to_group=True)
#: For a program that unwinds by itself when its main thread is interrupted, and ends what it has started.
INTERRUPT = PoliteSignal(signal.SIGINT, to_group=False)
#: For a program that must know whether it is cancelled: it reports a cancellation itself, and no other end.
INTERRUPT_OR_RELEASE = PoliteSignal(signal.SIGINT, to_group=False, unless_cancelled=signal.SIGHUP)


class Stopper:
    """Ends the flow process `pid` of the run in `directory`, once, for the first reason that arises.

    `has_ended` reaps, and returns whether the flow process has ended by itself. `notice` writes a line to the run's
    log.
    """

    def __init__(
        self,
        directory: str,
        pid: int,
        polite: PoliteSignal,
        grace_s: float,
        run_time_s: Optional[float],
        has_ended: Callable[[], bool],
        notice: Callable[[str], None],
    ) -> None:
        self._directory = directory
        self._pid = pid
        self._polite = polite
        self._grace_s = grace_s
        self._run_time_s = run_time_s
        self._has_ended = has_ended
        self._notice = notice
        self._overdue_at_s = None if run_time_s is None else time.monotonic() + run_time_s
        #: Why the run is being ended; None until then.
        self.stop: Optional[Stop] = None
        #: When to kill (monotonic seconds); None before the run is asked to end, and once it is killed.
        self._kill_at_s: Optional[float] = None
        #: When it was asked to end, and when it was killed (seconds since the epoch); None if it was not.
        self.asked_at: Optional[float] = None
        self.killed_at: Optional[float] = None
        #: When the flow process, which was killed, is given up if it has not ended (monotonic seconds).
        self._give_up_at_s: Optional[float] = None

    @property
    def next_deadline_s(self) -> Optional[float]:
        """When `enforce` is due next (monotonic seconds); None when no time is set."""
        if self.stop is None:
            return self._overdue_at_s
        return self._give_up_at_s if self._kill_at_s is None else self._kill_at_s

    @property
    def is_given_up(self) -> bool:
        """Whether the flow process was killed and lives on: it may not be signalled, or hangs in the kernel."""
        return self._give_up_at_s is not None and time.monotonic() >= self._give_up_at_s

    @property
    def group_deadline_s(self) -> Optional[float]:
        """When the rest of a process group that was asked to end must have ended; None when it was not asked."""
        return self._kill_at_s if self._polite.to_group else None

    def obey(self, arrived: Signal) -> None:
        """Begin to end the run because the signal `arrived`; a later request can only shorten the grace time."""
        stop = requested_stop(self._directory, arrived, self._grace_s)
        if self.stop is None:
            self._begin(stop)
        elif self._kill_at_s is not None:
            self._kill_at_s = min(self._kill_at_s, time.monotonic() + stop.grace_s)

    def enforce(self) -> None:
        """Begin to end the run when its time is up, and kill it when its grace time is over."""
        now = time.monotonic()
        if self.stop is None and self._overdue_at_s is not None and now >= self._overdue_at_s:
            evidence = "the run had not ended after its limit of {:g} s".format(self._run_time_s or 0.0)
            self._begin(Stop(REASON_TIMEOUT, evidence, None, self._grace_s))
        if self._kill_at_s is not None and now >= self._kill_at_s:
            self._kill_at_s = None
            self.killed_at = time.time()
            signal_group(self._pid, signal.SIGKILL)
            self._give_up_at_s = now + (_REFUSED_S if may_not_signal(self._pid) else _HUNG_S)

    def _begin(self, stop: Stop) -> None:
        if self._has_ended():  # by itself, before it was signalled
            return
        self.stop, self.asked_at = stop, time.time()
        self._kill_at_s = time.monotonic() + stop.grace_s
        if stop.grace_s > 0:
            number = self._polite.number_for(stop.reason)
            signal_group(self._pid, number, to_group=self._polite.to_group)
            signal_group(self._pid, signal.SIGCONT)
        flow = find(self._pid)
        if flow is not None and may_not_signal(flow.pid):  # sudo, su and other set-uid programs
            text = "{}; the flow process {} may not be signalled: it may live on"
            self._notice(text.format(stop.evidence, describe(flow)))


def requested_stop(directory: str, arrived: Signal, grace_s: float) -> Stop:
    """Return what the signal `arrived` means: the agent's request if there is a stop.json, else another process's.

    `grace_s` is the grace time unless the request has one.
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
        why = "there is no {} with a reason".format(STOP_FILE)
    except (OSError, ValueError, TypeError, KeyError) as error:
        why = "{} cannot be read: {}".format(STOP_FILE, error)
    return Stop(REASON_TERMINATED, "the runner got {}; {}".format(sender, why), None, grace_s)


def _grace_s(asked: Dict[str, Any], default_s: float) -> float:
    given_s = asked.get("grace_s", default_s)
    if isinstance(given_s, bool) or not isinstance(given_s, (int, float)) or not 0 <= given_s <= MAX_SECONDS:
        return default_s
    return float(given_s)


def _sender(arrived: Signal) -> str:
    if not arrived.pid:
        return "the kernel or another pid namespace"
    try:
        with open("/proc/{}/comm".format(arrived.pid)) as file:
            name = file.read().strip()
    except OSError:
        name = "gone"
    return "pid {} ({}), uid {}".format(arrived.pid, name, arrived.uid)
