"""Values as supervisord's XML-RPC can send them.

It sends no None and no integer of more than 32 bits (xmlrpc.client), and characters that XML does not have would make
the answer unreadable. In deferred answers it counts the characters of a body instead of its bytes
(DeferredXMLRPCResponse.getresponse in supervisor/xmlrpc.py), so every character must be one byte.
"""

import re
import xmlrpc.client
from typing import Any

from supervisor.xmlrpc import Faults, RPCError  # type: ignore[import-untyped]

from flowherd_supervisord.agent_socket import NoAgent

#: What XML 1.0 does not allow (section 2.2), and other control characters; a carriage return would be a line feed.
_NOT_IN_XML = re.compile("[^\t\n\u0020-\u007e\u00a0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LARGEST_INT = 2**31 - 1
#: Codes of faults by the status of an agent's answer.
_CODES = {400: Faults.BAD_ARGUMENTS, 404: Faults.BAD_NAME}


def sendable(value: Any) -> Any:
    """Return a JSON value so that it can be sent: in objects, members that are None are left out."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, dict):
        return {_name(key): sendable(one) for key, one in value.items() if one is not None}
    if isinstance(value, (list, tuple)):
        return ["" if one is None else sendable(one) for one in value]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > _LARGEST_INT:
        return float(value)
    return "" if value is None else value


def fault(error: object) -> Exception:
    """Return the exception that makes supervisord answer with a fault of this text.

    Its code is NOT_RUNNING if no agent answers, BAD_NAME if there is no such run or flow, else BAD_ARGUMENTS or FAILED.
    """
    status = getattr(error, "status", 0)
    code = _CODES.get(status, Faults.FAILED) if not isinstance(error, NoAgent) else Faults.NOT_RUNNING
    made = RPCError(code)
    made.text = _text(str(error))
    return made  # type: ignore[no-any-return]


def _name(text: Any) -> str:
    """Return the name of a member, in which every character must be sent as it is."""
    return str(text).encode("ascii", "replace").decode("ascii")


def _text(text: str) -> Any:
    clean = _NOT_IN_XML.sub("\ufffd", text)
    return clean if clean.isascii() else _Encoded(clean)


# xmlrpc.client writes an object of its own class Binary by calling the object's `encode`, and no other.
def _Encoded(text: str) -> xmlrpc.client.Binary:
    """Return a string that is sent with references for the characters outside ASCII."""
    body = xmlrpc.client.escape(text).encode("ascii", "xmlcharrefreplace").decode("ascii")
    made = xmlrpc.client.Binary(text.encode("utf-8"))
    made.encode = lambda out: out.write("<value><string>{}</string></value>\n".format(body))  # type: ignore
    return made
