"""The runner's wait for what its flow process has found in force, before it records the start.

Only what arrives before the flow process may run any user code counts, so no flow can claim anything.
"""

import select
import signal
import time
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from flowherd_runner import channel
from flowherd_runner.contract.isolation import InForce, Isolation, Missing, in_force_of, in_force_to_json
from flowherd_runner.flow_group import signal_group
from flowherd_runner.flow_start import ForkedFlow

#: How long a flow process may take to put everything in force, seconds; usually some milliseconds.
_TIMEOUT_S = 30.0


class Confirmed(NamedTuple):
    """What the flow process has said before the start."""

    #: The object `isolation` of the file `started`; None for a run that is not to be kept apart.
    record: Optional[Dict[str, Any]]
    #: All other messages, which belong to the run's output.
    early: Tuple[channel.Received, ...]


def confirmed(flow: ForkedFlow, wanted: Isolation) -> Confirmed:
    """Wait until the flow process says what is in force, or that it does not start, or has ended.

    A flow process that says nothing in time is killed. It must not have been let go yet.
    """
    early: List[channel.Received] = []
    found, problem = _found(flow, early)
    if found is None:
        found = InForce(missing=(Missing(wanted.level, problem),))
    init = flow.init.pid if flow.init is not None else None
    return Confirmed(in_force_to_json(found._replace(asked=wanted.level, init_pid=init)), tuple(early))


def _found(flow: ForkedFlow, early: List[channel.Received]) -> Tuple[Optional[InForce], str]:
    """Return what is in force, else None and why that is not known; add what else was received to `early`."""
    if flow.init is not None and not flow.init.wait_until_ready():
        return None, _give_up(flow, early, "the first process of its pid namespace did not start")
    poll = select.poll()
    poll.register(flow.ends.records, select.POLLIN)
    deadline_s = time.monotonic() + _TIMEOUT_S
    while poll.poll(max(0, int(1000 * (deadline_s - time.monotonic())))):
        try:
            received = channel.receive(flow.ends.records)
        except OSError:
            received = channel.Received(b"", None)
        if not received.data:
            return None, _give_up(flow, early, "the flow process ended before it could say what is in force")
        message = _decoded(received, flow.pid)
        if "in_force" in message:
            return in_force_of(message["in_force"]), ""
        early.append(received)
        if "not_started" in message:
            return None, "the run was not started"
    return None, _give_up(flow, early, "the flow process did not say within {:g} s what is in force".format(_TIMEOUT_S))


def _decoded(received: channel.Received, flow_pid: int) -> Dict[str, Any]:
    try:
        return channel.decode(received.data) if received.sender == flow_pid else {}
    except ValueError:
        return {}


def _give_up(flow: ForkedFlow, early: List[channel.Received], why: str) -> str:
    signal_group(flow.pid, signal.SIGKILL)
    early.append(channel.Received(channel.encode({"not_started": why}), flow.pid))
    return why
