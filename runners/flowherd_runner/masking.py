"""Replaces secret values in a run's output by ***.

Knows no stream and no file. A value is found within one line; a value of several lines is found line by line.
"""

from typing import Iterable, List, Tuple

_STARS = "***"
#: Minimum length of a value: a shorter one would mask ordinary text.
LEAST_SECRET_CHARS = 4


class Mask:
    """Replaces the `values` that are long enough to be secrets."""

    def __init__(self, values: Iterable[str]) -> None:
        parts = {part for value in values for part in [value, *value.splitlines()] if len(part) >= LEAST_SECRET_CHARS}
        # The longest first, so that no part of it is left by a shorter one that it contains.
        self._texts: List[str] = sorted(parts, key=len, reverse=True)
        self._secrets: List[bytes] = sorted({_encoded(part) for part in parts}, key=len, reverse=True)
        #: Bytes after a cut that are needed to recognise a value that straddles it.
        self.overlap_bytes = max(map(len, self._secrets), default=1) - 1

    def __bool__(self) -> bool:
        return bool(self._secrets)

    def line(self, line: bytes) -> bytes:
        """Return `line` with every secret replaced."""
        for secret in self._secrets:
            line = line.replace(secret, _STARS.encode())
        return line

    def text(self, text: str) -> str:
        """Return `text` with every secret replaced."""
        for secret in self._texts:
            text = text.replace(secret, _STARS)
        return text

    def cut(self, line: bytes, limit: int) -> Tuple[bytes, int]:
        """Return the first `limit` bytes of `line` with every secret replaced, and how many bytes were left out.

        `line` should have `overlap_bytes` more than `limit`: a secret that straddles the limit is left out as a whole.
        """
        end = min(limit, len(line))
        while True:
            straddling = [
                found for found in (_straddling(line, secret, end) for secret in self._secrets) if found != -1
            ]
            if not straddling:
                return self.line(line[:end]), len(line) - end
            end = min(straddling)


def _straddling(line: bytes, secret: bytes, end: int) -> int:
    """Return where `secret` begins in `line` if it begins before `end` and ends after it; else -1."""
    return line.find(secret, max(0, end - len(secret) + 1), end + len(secret) - 1)


def _encoded(value: str) -> bytes:
    return value.encode("utf-8", "surrogateescape")
