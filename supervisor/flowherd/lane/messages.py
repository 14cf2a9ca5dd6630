"""The words of the lane, as client and server both know them.

A frame's head is one JSON object. A client begins with

    {"id": 0, "op": "hello", "lane": 1, ...}

and gets what the server is and which operations it has. After that:

    request    {"id": n, "op": name, ...}       n is the client's own; answers may come in another order
    answer     {"id": n, "ok": {...}}           or {"id": n, "error": kind, "message": text}
    push       {"push": kind, ...}              whenever the server has something for this client
"""

from __future__ import annotations

from typing import Any

#: Version of the protocol. A server that does not know a client's version refuses its hello, and the client goes on
#: without the lane. What is added without a new version: operations, and keys that older readers ignore.
VERSION = 1
#: Name of the server's socket, beside its database.
SOCKET_FILE = "lane.sock"

HELLO = "hello"

#: The request is understood and cannot be carried out; the same request would be refused again.
REFUSED = "refused"
#: It may succeed later, at this server or in another way.
UNAVAILABLE = "unavailable"
#: The server has no such operation.
UNKNOWN_OP = "unknown_op"
#: The request is not one that the protocol allows, or comes before a hello.
BAD_REQUEST = "bad_request"
#: The server does not speak the version that the hello names.
OTHER_VERSION = "other_version"

#: Something has come for the client, which has to ask what: a poke, a run to end, runs that may be due.
WAKE = "wake"
#: Runs that are offered to the client alone for some seconds, as the operation `offer` answers.
OFFER = "offer"
#: A flow run that the client follows has new lines.
LINES = "lines"
#: Flow runs whose logs are followed now: all of them, each time that they have changed.
FOLLOWED = "followed"
#: Whether somebody watches, and what the agent is asked (flowherd/story/live_news.py), each time that it has changed.
LIVE = "live"

Message = dict[str, Any]
