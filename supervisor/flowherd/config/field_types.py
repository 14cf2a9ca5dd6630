"""The types of settings that are checked when they are read."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit

from flowherd.config.sections import Check, Field

#: The name of an HTTP header (RFC 9110, 5.6.2).
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


def _checked_api(address: str) -> str:
    try:
        parts = urlsplit(address)
        usable = not address or (parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0)
    except ValueError:  # no port number, or an IPv6 address without its brackets
        usable = False
    if not usable:
        raise ValueError(
            "an API address looks like http://HOST:PORT, with an IPv6 address in brackets: http://[::1]:80"
        )
    return address


def _checked_pool_name(name: str) -> str:
    if any(character in "/%&<>" for character in name):
        raise ValueError("names of work pools, queues and workers must not contain / % & < >")
    return name


def _checked_token(token: str) -> str:
    token = token.strip()
    if not all("!" <= character <= "~" for character in token):
        raise ValueError("a token is printable ASCII without spaces, because it is sent in an HTTP header")
    return token


def _checked_absolute(path: str) -> str:
    if path and not path.startswith("/"):
        raise ValueError("it should be an absolute path")
    return path.rstrip("/")


def _checked_secret_source(source: str) -> str:
    kind, _, place = source.partition(":")
    if kind not in ("file", "env") or not place:
        raise ValueError("the source of a secret is file:PATH or env:VARIABLE")
    return source


def _checked_at_least_one(number: int) -> int:
    if number < 1:
        raise ValueError("it should be at least 1")
    return number


def _checked_headers(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or not all(" " <= character <= "ÿ" for character in value):
            raise ValueError("a header has a name of letters, digits and hyphens, and a value of one line")
    return headers


#: A secret, or empty; left out of every repr.
Token = Annotated[str, Check(_checked_token), Field(repr=False, secret=True)]
#: Where a secret is read from when a run starts.
SecretSource = Annotated[str, Check(_checked_secret_source)]
#: A number of things of which there must be one.
AtLeastOne = Annotated[int, Check(_checked_at_least_one)]
#: A name that becomes part of a path of Prefect 3's API, or empty.
PoolName = Annotated[str, Check(_checked_pool_name)]
#: The address of an API, or empty.
ApiAddress = Annotated[str, Check(_checked_api)]
#: An absolute path, or empty.
AbsolutePath = Annotated[str, Check(_checked_absolute)]
#: HTTP headers. They often hold keys, so only their names are shown.
Headers = Annotated[dict[str, str], Check(_checked_headers), Field(repr=False, masked=True)]
