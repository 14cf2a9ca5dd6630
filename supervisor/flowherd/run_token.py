"""Tokens of single flow runs: what the engine of an isolated run gets in place of the embedded server's own token.

The agent makes one when it writes down its claim, from the server's token and for that claim alone, and the server
recognises it without having stored anything: it is signed with a key that only those can make who have the server's
token (HMAC, RFC 2104). So it costs no request, and it ends with the claim (flowherd_server/runs/run_scope.py).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import NamedTuple
from uuid import UUID

#: The beginning of each such token, by which people and programs that look for lost secrets can tell what it is.
PREFIX = "flowherd-run"
_TOKEN = re.compile(rf"{PREFIX}\.([0-9a-f]{{32}})\.([0-9]{{1,9}})\.([0-9a-f]{{64}})")
_PURPOSE = b"flowherd: token of one flow run"


class RunToken(NamedTuple):
    """What a token says."""

    flow_run_id: str
    #: Version of the flow run that was claimed.
    version: int


def make_run_token(server_token: str, flow_run_id: str, version: int) -> str:
    """Return the token of a flow run that is claimed at this version, at the server with this token.

    Raises ValueError if the id is no UUID, or the version is negative.
    """
    if version < 0:
        raise ValueError(f"not a version of a flow run: {version}")
    text = f"{PREFIX}.{UUID(flow_run_id).hex}.{version}"
    return f"{text}.{_signature(server_token, text)}"


def read_run_token(server_token: str, token: str) -> RunToken | None:
    """Return what a token says, if it was made with the token of this server; None for all others."""
    found = _TOKEN.fullmatch(token)
    if not server_token or found is None:
        return None
    if not hmac.compare_digest(_signature(server_token, token.rpartition(".")[0]), found[3]):
        return None
    return RunToken(str(UUID(found[1])), int(found[2]))


def _signature(server_token: str, text: str) -> str:
    key = hmac.digest(server_token.encode(), _PURPOSE, hashlib.sha256)
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
