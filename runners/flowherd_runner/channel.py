"""The messages of a flow process to its runner, in addition to its output: JSON objects on a SOCK_SEQPACKET pair.

  {"record": {"logger": str, "message": str, "task_run_id"?: str, "flow_run_id"?: str, "info"?: {...}},
   "level": n, "id": "<pid>-<number>", "markers": [stream, ...]}
  {"exception": {"type": str, "message": str}}   a Python callable raised
  {"finalising": true}                           the user's function has returned; its interpreter is ending
  {"after_end": [text, ...]}                     what the engine wants done if this process is killed: see files.py
  {"not_started": text}                          the user's code was not reached
  {"in_force": {...}}                            of a run that is kept apart: what is in force (contract/isolation.py);
                                                 sent before any user code can run, and counts only until then
  {"mask": {"name": str, "value": str}}          a secret that the process has read, before it can print it
  {"notice": text}                               a line in flowherd's own words for the run's log

"exception", "finalising", "after_end", "not_started" and "in_force" count only from the flow process itself; the kernel
says who has sent a message (SCM_CREDENTIALS, unix(7)). After "finalising", what is no JSON is a stack that faulthandler
has written.

Both ends are of one release, one forked from the other, so this is no contract.
"""

import json
import socket
import struct
from typing import Any, Dict, NamedTuple, Optional

#: Begins the note at the end of a text that was cut.
CUT_NOTE = "\n[flowherd: "
#: The kernel takes whole messages only, and not much larger ones than this (SO_SNDBUF, socket(7)).
MAX_TEXT_BYTES = 100 * 1024
#: Most that the further fields of a record take beside its text, and a single one of them.
_MAX_INFO_BYTES = 48 * 1024
_MAX_FIELD_BYTES = 8 * 1024
#: Most objects and lists within each other: readers of the run's journal must have room for them too.
_MAX_LEVELS = 64
#: Size of the receive buffer: at least what SO_SNDBUF lets through by default.
RECEIVE_BYTES = 512 * 1024
#: struct ucred: pid, uid, gid (unix(7)).
_CREDENTIALS = struct.Struct("=iII")


class Received(NamedTuple):
    """One message as it arrived; without data it is the end of file."""

    data: bytes
    #: Pid of its sender, as the receiver sees it; None if the kernel did not say.
    sender: Optional[int]


def receive(records: socket.socket) -> Received:
    """Receive one message. Raises BlockingIOError if there is none and the socket does not block, else OSError."""
    data, ancillary, _, _ = records.recvmsg(RECEIVE_BYTES, socket.CMSG_SPACE(_CREDENTIALS.size))
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS and len(content) >= _CREDENTIALS.size:
            return Received(data, int(_CREDENTIALS.unpack_from(content)[0]))
    return Received(data, None)


def encode(message: Dict[str, Any]) -> bytes:
    """Return the bytes of a message; a lone surrogate is sent as its JSON escape, so that it arrives unchanged."""
    return json.dumps(message, ensure_ascii=False).encode("utf-8", "backslashreplace")


def decode(data: bytes) -> Dict[str, Any]:
    """Return the message in `data`. Raises ValueError when it is not one: the user's code can reach the channel."""
    try:
        message = json.loads(data.decode("utf-8"))
    except RecursionError:
        raise ValueError("a message with too many levels: {!r}".format(data[:80])) from None
    if not isinstance(message, dict) or _is_too_deep(message, _MAX_LEVELS):
        raise ValueError("not a message of a flow process: {!r}".format(data[:80]))
    return message


def _is_too_deep(value: Any, levels: int) -> bool:
    if not isinstance(value, (dict, list)):
        return False
    parts = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_too_deep(part, levels - 1) for part in parts)


def shorten(text: str, limit_bytes: int = MAX_TEXT_BYTES) -> str:
    """Return `text`, cut and with a note at its end when its JSON form would be longer than `limit_bytes`."""
    if len(text) * 6 <= limit_bytes:
        return text
    data = encode({"": text})
    if len(data) <= limit_bytes:
        return text
    # No character takes more than six bytes in JSON, so this many certainly fit; of plain text more do.
    plain = text.encode("utf-8", "backslashreplace")[:limit_bytes].decode("utf-8", "ignore")
    kept = plain if len(encode({"": plain})) <= limit_bytes * 11 // 10 else text[: limit_bytes // 6]
    return "{}{}{} more characters were left out]".format(kept, CUT_NOTE, len(text) - len(kept))


def shorten_info(info: Dict[str, Any]) -> Dict[str, Any]:
    """Return the fields of a record that fit beside its text: long ones are cut, and the last are left out."""
    kept: Dict[str, Any] = {}
    left_bytes = _MAX_INFO_BYTES
    for name, value in info.items():
        size = len(encode({name: value}))
        if size > _MAX_FIELD_BYTES:
            name = shorten(name, 1000)
            value = shorten(value if isinstance(value, str) else json.dumps(value), _MAX_FIELD_BYTES)
            size = len(encode({name: value}))
        if size <= left_bytes:
            kept[name] = value
            left_bytes -= size
    return kept
