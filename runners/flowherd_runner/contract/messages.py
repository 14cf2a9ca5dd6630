"""The conversation of an agent with a fork server.

One SOCK_SEQPACKET pair, one JSON object per message. The agent sends
  {"op": "start", "request": n, "directory": path, "if_fresh": true, "cgroup": that of the run, "apart": true}
                                                        with the descriptor of the locked lock as SCM_RIGHTS, and
                                                        perhaps a socket for the second step: see hand_over.py;
                                                        "apart" for a run with a level of isolation (isolation.py): its
                                                        processes get a pid namespace of their own
  {"op": "spares", "number": n, "idle_s": t, "cgroups": path, "apart": true}
                                                        how many spare runners to keep; none until this comes; without
                                                        "idle_s" the fork server chooses when they rehearse; "cgroups"
                                                        is the cgroup below which each makes and enters one of its own;
                                                        "apart" asks for spares for runs with a level of isolation, and
                                                        leaves the number of the others as it is
and the fork server sends
  {"op": "importing", "module": name}                   before each import; an agent of 0.1.0 ignores it
  {"op": "ready", "pid": p, "python": "3.8.18", "preloaded": [...], "failed": {module: error},
   "refused": {module: what its import leaves}, "threads": n, "two_steps": true, "apart": true}
  {"op": "started", "request": n, "pid": p, "start_ticks": t}
  {"op": "refused", "request": n, "error": text, "stale": true}
  {"op": "stale", "file": path}                         once, when a file that it has loaded has changed
  {"op": "gone", "pid": p, "status": wait status}       a runner ended and was reaped
  {"op": "spares", "pids": [p, ...], "cgroups": [...], "apart": {"pids": [...], "cgroups": [...]}}
                                                        the spare runners that wait for a run now, and their cgroups,
                                                        of which a run can have one: it need not move into another then;
                                                        those for runs with a level of isolation are under "apart" alone
End of file means to the fork server that the agent is gone; it then exits, and its runners go on.

An agent of 0.1.0 sends no "if_fresh", so a stale fork server starts its runs nevertheless; it ignores "stale". With
"if_fresh" a stale fork server refuses, with the key "stale", and the agent asks a new one. A fork server of 0.1.0
ignores "if_fresh", refuses "spares" and a second descriptor, and its "ready" has no "two_steps". One whose "ready" has
no "apart" would start a run with a level without it, so it must be given none.
"""

import json
from typing import Any, Dict

MAX_MESSAGE_BYTES = 64 * 1024
#: Most spare runners of one fork server.
MAX_SPARES = 16
#: How the name of a cgroup begins that a spare runner has made.
SPARE_CGROUP = "flowherd-spare-"


def encode_message(message: Dict[str, Any]) -> bytes:
    """Return the bytes of one message."""
    return json.dumps(message).encode()


def decode_message(data: bytes) -> Dict[str, Any]:
    """Return the message in `data`. Raises ValueError when it is not one."""
    message = json.loads(data.decode())
    if not isinstance(message, dict) or not isinstance(message.get("op"), str):
        raise ValueError("no fork server message: {!r}".format(data[:80]))
    return message
