"""Logging in to the pages of a server that has a token: a form, and a cookie that says that it was filled in.

The cookie names nobody's session on the server: it carries the login's name and its end, signed with a key that follows
from the token. So it outlives the server's restarts, and another token ends all logins.
"""

from __future__ import annotations

import hmac
import re
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

COOKIE = "flowherd_login"
#: How long a login lasts, seconds.
LASTS_S = 12 * 3600
_NAME_CHARS = 60
_COOKIE = re.compile(r"(?P<until>\d{1,12})\.(?P<name>[A-Za-z0-9_-]*)\.(?P<signature>[0-9a-f]{64})", re.ASCII)


@dataclass(frozen=True)
class Login:
    """Who asks for a page."""

    #: Tells logins apart; empty without one (the server has no token, or a program sends it).
    id: str = ""
    #: Name that the person gave; may be empty.
    name: str = ""


class Logins:
    """Makes and checks the cookies of a server with this token; without a token nobody has to log in."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()
        self._key = sha256(b"flowherd login\0" + self._token).digest()

    @property
    def are_needed(self) -> bool:
        """Whether the server has a token."""
        return bool(self._token)

    def is_token(self, text: str) -> bool:
        """Return whether the text is the server's token."""
        return bool(self._token) and hmac.compare_digest(text.strip().encode("utf-8", "replace"), self._token)

    def cookie(self, name: str, *, is_secure: bool) -> str:
        """Return the Set-Cookie header of a new login."""
        until = int(time.time()) + LASTS_S
        shown = urlsafe_b64encode(name.strip()[:_NAME_CHARS].encode("utf-8", "replace")).decode().rstrip("=")
        value = f"{until}.{shown}.{self._signature(until, shown)}"
        return f"{COOKIE}={value}; Max-Age={LASTS_S}; Path=/; HttpOnly; SameSite=Strict{_secure(is_secure)}"

    def ended(self, *, is_secure: bool) -> str:
        """Return the Set-Cookie header that ends a login."""
        return f"{COOKIE}=; Max-Age=0; Path=/; HttpOnly; SameSite=Strict{_secure(is_secure)}"

    def login_of(self, cookies: Mapping[str, str]) -> Login | None:
        """Return the login that a request's cookies carry; None if there is none, or it has ended."""
        match = _COOKIE.fullmatch(cookies.get(COOKIE, ""))
        if match is None or not self._token:
            return None
        until, shown = int(match["until"]), match["name"]
        if until < time.time() or not hmac.compare_digest(match["signature"], self._signature(until, shown)):
            return None
        try:
            name = urlsafe_b64decode(shown + "=" * (-len(shown) % 4)).decode()
        except ValueError:
            return None
        return Login(id=match[0], name=name)

    def _signature(self, until: int, shown: str) -> str:
        return hmac.new(self._key, f"{until}.{shown}".encode(), sha256).hexdigest()


def _secure(is_secure: bool) -> str:
    return "; Secure" if is_secure else ""
