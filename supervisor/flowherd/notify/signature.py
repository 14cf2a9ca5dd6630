"""The signature of a webhook's request, by the specification of Standard Webhooks, so that receivers have libraries.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

#: Beginning of a secret whose rest is base64.
_PREFIX = "whsec_"


def signed_headers(secret: str, message_id: str, at: int, body: bytes) -> dict[str, str]:
    """Return the headers that identify a request and sign it, if there is a secret. `at` is in seconds since the epoch.

    Raises ValueError if the secret begins with "whsec_" and what follows is not base64.
    """
    headers = {"webhook-id": message_id, "webhook-timestamp": str(at)}
    if secret:
        content = b".".join((message_id.encode(), str(at).encode(), body))
        digest = hmac.new(_key(secret), content, hashlib.sha256).digest()
        headers["webhook-signature"] = f"v1,{base64.b64encode(digest).decode()}"
    return headers


def _key(secret: str) -> bytes:
    if not secret.startswith(_PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except binascii.Error as error:
        raise ValueError(f"a secret that begins with {_PREFIX} goes on with base64") from error
