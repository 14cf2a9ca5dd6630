"""The token in each form: shows that this process made the form for this login, and tells one form from another.

A page of another site cannot know one, so it cannot have a browser send a form here (CSRF). Since each form has another
token, it also tells a doubled click from a second wish.
"""

from __future__ import annotations

import hmac
import secrets

#: Name of the form's field.
FIELD = "form_token"


class FormTokens:
    """Makes and checks the tokens of one process. They end with it: what they would repeat is remembered only here."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)

    def new(self, login: str) -> str:
        """Return the token of a new form for a login, which any text identifies."""
        key = secrets.token_urlsafe(12)
        return f"{key}.{self._signature(key, login)}"

    def is_valid(self, token: str, login: str) -> bool:
        """Return whether this process made the token for this login."""
        key, _, signature = token.partition(".")
        return hmac.compare_digest(signature.encode(), self._signature(key, login).encode())

    def _signature(self, key: str, login: str) -> str:
        return hmac.new(self._secret, f"{key}\0{login}".encode(), "sha256").hexdigest()
