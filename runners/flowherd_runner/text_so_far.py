"""When the unfinished line of one stream is due in the journal, so that its reader sees it and the journal stays small.

Knows no journal and reads no clock; times are of the monotonic clock, seconds.
"""

from typing import Optional

from flowherd_runner.line_splitter import Unfinished

#: A line that is finished within this time is written only once.
FIRST_AFTER_S = 0.2
#: Between two records of the same line.
INTERVAL_S = 1.0
#: After this time, and at this interval, the text is marked as due at servers that take only whole lines.
STANDING_S = 60.0


class TextSoFar:
    """The unfinished lines of one stream, one after another."""

    def __init__(self) -> None:
        self._seen: Optional[Unfinished] = None
        #: What of the line is in the journal; empty when nothing is.
        self.text = b""
        self._written: Optional[Unfinished] = None
        self._standing_text = b""
        self._due_s: Optional[float] = None
        self._standing_s = 0.0

    def look(self, unfinished: Optional[Unfinished], now_s: float) -> None:
        """Take notice of the state of the line; None when there is no unfinished line, or it has to wait."""
        if unfinished is None:
            self._seen, self._due_s = None, None
            return
        if self._seen is None or unfinished.line != self._seen.line:
            self._begin(unfinished, now_s)
        self._seen = unfinished
        if self._due_s is None and unfinished != self._written:
            self._due_s = now_s + INTERVAL_S

    def _begin(self, unfinished: Unfinished, now_s: float) -> None:
        if self._written is not None and unfinished.line == self._written.line:
            return  # the line had to wait for a moment, and goes on
        self.text = self._standing_text = b""
        self._written = None
        self._due_s = now_s + FIRST_AFTER_S
        self._standing_s = now_s + STANDING_S

    def deadline(self) -> Optional[float]:
        """When something is due although nothing more comes; None when there is no unfinished line."""
        if self._seen is None:
            return None
        return self._standing_s if self._due_s is None else min(self._due_s, self._standing_s)

    def is_due(self, now_s: float) -> bool:
        """Whether the line is to be looked at now."""
        deadline_s = self.deadline()
        return deadline_s is not None and now_s >= deadline_s

    def is_standing(self, now_s: float) -> bool:
        """Whether the text is due at servers that take only whole lines."""
        return now_s >= self._standing_s

    def is_news(self, text: bytes, now_s: float) -> bool:
        """Whether `text`, what the line shows now, has to be written."""
        return bool(text) and text != (self._standing_text if self.is_standing(now_s) else self.text)

    def done(self, text: bytes, now_s: float) -> None:
        """Note that what was due is done: `text` is in the journal."""
        if self.is_standing(now_s):
            self._standing_text = text
            self._standing_s = now_s + STANDING_S
        self.text = text
        self._written = self._seen
        self._due_s = None
