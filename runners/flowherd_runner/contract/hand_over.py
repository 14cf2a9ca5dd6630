"""The two steps of a start: a runner is given its run and prepares it, and goes on once the agent says so.

With a start request the agent may hand over one end of a SOCK_SEQPACKET pair beside the lock. What is sent on it:

  agent:   GO                          the claim is won: record the start and run the user's code
  runner:  {"flow_pid": p}             the run is prepared, its flow process is p; with "init_pid", the pid of the
                                       first process of the run's pid namespace, if it has one
           {"started": true}           the file `started` is on the disk
           {"ended": true}             exit.json is, and the lock is free; no process of the run is left but the runner,
                                       which ends now. Not said if there were processes that it had to look for

End of file before GO means that the run is not to be started: the agent has lost the claim, or is gone. Runner and flow
process then end, no user code has run, and `started` was not written. What the runner sends is a hint that spares a
look: the files of the run directory are the contract. Without a socket a runner goes on at once.
"""

import json
import socket
from typing import Any, Dict

GO = b"go"
#: More than any message.
MAX_HINT_BYTES = 4096


def send_hint(fd: int, hint: Dict[str, Any]) -> None:
    """Send one hint on the socket `fd`; do nothing when nobody reads it any more."""
    channel = socket.socket(fileno=fd)
    try:
        channel.send(json.dumps(hint).encode(), socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
    except OSError:
        pass
    finally:
        channel.detach()


def decode_hint(data: bytes) -> Dict[str, Any]:
    """Return the hint in `data`. Raises ValueError when it is not one."""
    hint = json.loads(data.decode())
    if not isinstance(hint, dict):
        raise ValueError("no hint of a runner: {!r}".format(data[:80]))
    return hint
