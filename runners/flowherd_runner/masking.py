"""Replaces secret values in a run's output by ***.

Knows no stream and no file, and not which values are secret: see secret_values.py. A value is found within one line.

A value is masked where no letter, digit or underscore touches it, so that a secret "token1" leaves "mytoken123" alone.
Escape sequences before it are not letters that touch it: the n of a "\\n" in JSON, the D of "%3D" in a URL, the m that
ends a colour. Besides the value as it is, the forms in which programs print it are found: see secret_forms.py.

One compiled pattern finds the places where any form begins; only there the forms themselves are compared. It holds no
more than their first bytes, because Python compiles long alternatives slowly, and begins with one class of bytes for
each of these, which dismisses most places of a text before any alternative is tried. The cost is measured by
benchmarks/masking_cost.py.
"""

import re
from typing import Dict, Iterable, List, NamedTuple, Optional, Pattern, Set, Tuple

from flowherd_runner.secret_forms import embedded_forms, forms

_STARS = b"***"
_WORD = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
#: Longest escape sequence that is looked for before a value, bytes.
_ESCAPE_BYTES = 24
_ESCAPE = re.compile(
    rb"(?:\\[abefnrtv0]|\\x[0-9A-Fa-f]{2}|\\u[0-9A-Fa-f]{4}|\\[0-7]{3}|%[0-9A-Fa-f]{2}"
    rb"|(?:\x1b|\\033|\\x1b|\\e)\[[0-9;?]*[A-Za-z])\Z"
)
#: The pattern knows so many bytes of each form.
_BEGINNING_BYTES = 5
#: From this length on, the beginning of a base64 form, which can stand within a word, is held back.
_TELLING_BYTES = 4


class Span(NamedTuple):
    """One secret in a text: from its first byte to the one behind its last."""

    start: int
    end: int


class Mask:
    """Replaces `values` in all their forms."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._whole: Set[bytes] = set()
        self._embedded: Set[bytes] = set()
        self._pattern: Optional[Pattern[bytes]] = None
        #: The forms that begin with the same bytes, the longest first, and whether each must not be touched.
        self._forms: Dict[bytes, List[Tuple[bytes, bool]]] = {}
        self._beginning_bytes = 0
        #: Bytes that must be seen behind a cut to recognise a value that straddles it.
        self.overlap_bytes = 0
        self.add(values)

    def __bool__(self) -> bool:
        return self._pattern is not None

    def add(self, values: Iterable[str]) -> None:
        """Mask these values too, from now on."""
        for value in values:
            if value:
                self._whole |= forms(value)
                self._embedded |= embedded_forms(value)
        everything = sorted(self._whole | self._embedded, key=lambda form: (-len(form), form))
        if not everything:
            return
        self.overlap_bytes = len(everything[0]) - 1
        self._beginning_bytes = size = min(_BEGINNING_BYTES, len(everything[-1]))
        self._forms = {}
        for form in everything:
            self._forms.setdefault(form[:size], []).append((form, form not in self._embedded))
        self._pattern = _beginnings(self._forms, size)

    def occurs_in(self, data: bytes) -> bool:
        """Whether anything in `data`, of any number of lines, may have to be masked."""
        return self._pattern is not None and self._pattern.search(data) is not None

    def line(self, line: bytes) -> bytes:
        """`line` with every secret replaced."""
        if not self.occurs_in(line):
            return line
        return replace_spans(line, self.spans(line), 0, len(line))

    def text(self, text: str) -> str:
        """`text`, of any number of lines, with every secret replaced."""
        return self.line(text.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass") if self else text

    def spans(self, data: bytes) -> List[Span]:
        """Where secrets are in `data`, in order; those that overlap are one."""
        found: List[Span] = []
        if self._pattern is None:
            return found
        match = self._pattern.search(data)
        while match is not None:
            start = match.start()
            end = self._end_of_secret(data, start)
            if found and start < found[-1].end:
                found[-1] = Span(found[-1].start, max(found[-1].end, end))
            elif end > start:
                found.append(Span(start, end))
            match = self._pattern.search(data, start + 1)
        return found

    def _end_of_secret(self, data: bytes, start: int) -> int:
        """Where the longest secret that begins at `start` ends; `start` when none does."""
        for form, apart in self._forms[data[start : start + self._beginning_bytes]]:
            end = start + len(form)
            if data.startswith(form, start) and not (apart and _is_touched(data, start, end)):
                return end
        return start

    def cut_text(self, text: str) -> str:
        """`text`, which was cut at its end, without the beginning of a secret there and with every secret replaced."""
        data = self.line(text.encode("utf-8", "surrogatepass"))
        return data[: self.safe_end(data, _TELLING_BYTES)].decode("utf-8", "surrogatepass")

    def safe_end(self, text: bytes, least: int = 1) -> int:
        """Where `text`, which will go on, must end for now so as not to show the beginning of a secret.

        Fewer than `least` bytes of one may be shown.
        """
        end = len(text)
        for form in self._whole:
            size = _beginning(text, form, least)
            while size and _is_touched(text, len(text) - size, len(text)):
                size = _beginning(text, form, least, below=size)
            end = min(end, len(text) - size)
        for form in self._embedded:
            end = min(end, len(text) - _beginning(text, form, _TELLING_BYTES))
        return end


def replace_spans(data: bytes, spans: List[Span], start: int, end: int) -> bytes:
    """`data` from `start` to `end` with *** in place of each span that is within."""
    parts: List[bytes] = []
    position = start
    for span in spans:
        if span.start >= position and span.end <= end:
            parts += (data[position : span.start], _STARS)
            position = span.end
    return b"".join(parts) + data[position:end]


def _beginnings(texts: Iterable[bytes], size: int) -> Pattern[bytes]:
    """A pattern for any of `texts`, all of `size` bytes."""
    texts = sorted(texts)
    classes = [
        b"[" + b"".join(b"\\x%02x" % byte for byte in sorted({text[i] for text in texts})) + b"]" for i in range(size)
    ]
    return re.compile(b"".join(classes) + b"(?<=" + b"|".join(map(re.escape, texts)) + b")")


def _is_touched(data: bytes, start: int, end: int) -> bool:
    """Whether a letter, digit or underscore touches data[start:end]; the end of an escape sequence does not count."""
    if end < len(data) and data[end] in _WORD:
        return True
    if start == 0 or data[start - 1] not in _WORD:
        return False
    return _ESCAPE.search(data, max(0, start - _ESCAPE_BYTES), start) is None


def _beginning(text: bytes, form: bytes, least: int, below: int = 1 << 62) -> int:
    """How many bytes of `form`, but not all, `text` ends with; 0 for fewer than `least`, or for none under `below`."""
    for size in range(min(len(form) - 1, len(text), below - 1), least - 1, -1):
        if text.endswith(form[:size]):
            return size
    return 0


def trim_start(data: bytes, start: int) -> int:
    """`start`, moved behind the rest of a UTF-8 character that was cut there."""
    for place in range(start, min(start + 3, len(data))):
        if data[place] & 0xC0 != 0x80:
            return place
    return start


def trim_end(data: bytes, end: int) -> int:
    """`end`, moved before the beginning of a UTF-8 character that would be cut there."""
    for place in range(end, max(end - 4, 0), -1):
        if place == len(data) or data[place] & 0xC0 != 0x80:
            return place
    return end
