"""What the agent and the fork server say to each other.

One SOCK_SEQPACKET pair, one JSON object a message. The agent sends
  {"op": "start", "request": n, "directory": path}     with the locked lock descriptor as SCM_RIGHTS
and the fork server
  {"op": "ready", "pid": p, "python": "3.8.18", "preloaded": [...], "failed": {module: error}, "threads": n}
  {"op": "started", "request": n, "pid": p, "start_ticks": t}
  {"op": "refused", "request": n, "error": text}
  {"op": "gone", "pid": p, "status": wait status}       a runner ended and was reaped
End of file on its side tells the fork server that the agent is gone; it then exits, its runners go on.
"""

import json
from typing import Any, Dict

MAX_MESSAGE_BYTES = 64 * 1024


def encode_message(message: Dict[str, Any]) -> bytes:
    """One message of the fork server's conversation."""
    return json.dumps(message).encode()


def decode_message(data: bytes) -> Dict[str, Any]:
    """The message in `data`. Raises ValueError when it is none."""
    message = json.loads(data.decode())
    if not isinstance(message, dict) or not isinstance(message.get("op"), str):
        raise ValueError("no fork server message: {!r}".format(data[:80]))
    return message
