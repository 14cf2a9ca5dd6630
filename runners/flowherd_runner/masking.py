"""Secret values out of a run's output: text in, text with *** out.

Knows no stream and no file. A value is found within one line; one of several lines is found line by line.
"""

from typing import Iterable, List, Tuple

_STARS = "***"
#: A shorter value would mask ordinary text.
LEAST_SECRET_CHARS = 4


class Mask:
    """Replaces the `values` that are long enough to be secrets."""

    def __init__(self, values: Iterable[str]) -> None:
        parts = {part for value in values for part in [value, *value.splitlines()] if len(part) >= LEAST_SECRET_CHARS}
        # The longest first, so that no rest of one is left by another that it contains.
        self._texts: List[str] = sorted(parts, key=len, reverse=True)
        self._secrets: List[bytes] = sorted({_encoded(part) for part in parts}, key=len, reverse=True)
        #: Bytes that must be seen behind a cut to recognise a value that straddles it.
        self.overlap_bytes = max(map(len, self._secrets), default=1) - 1

    def __bool__(self) -> bool:
        return bool(self._secrets)

    def line(self, line: bytes) -> bytes:
        """`line` with every secret replaced."""
        for secret in self._secrets:
            line = line.replace(secret, _STARS.encode())
        return line

    def text(self, text: str) -> str:
        """`text` with every secret replaced."""
        for secret in self._texts:
            text = text.replace(secret, _STARS)
        return text

    def cut(self, line: bytes, limit: int) -> Tuple[bytes, int]:
        """The first `limit` bytes of `line` with every secret replaced, and how many bytes of `line` were left out.

        `line` should hold `overlap_bytes` more than `limit`: a secret that straddles the limit is left out whole.
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
    """Where in `line` a `secret` begins that begins before `end` and ends behind it; -1 when none does."""
    return line.find(secret, max(0, end - len(secret) + 1), end + len(secret) - 1)


def _encoded(value: str) -> bytes:
    return value.encode("utf-8", "surrogateescape")
