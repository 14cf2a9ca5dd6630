"""Reads the output of a run (two pipes and the record channel) and writes it, merged and masked, to the journal.

Owns the reading ends. Never blocks, never raises for what the run writes, and keeps a limited amount in memory.
"""

import json
import os
import selectors
import socket
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from flowherd_runner import channel
from flowherd_runner.contract.journal import MAX_SO_FAR_BYTES, STREAM_LOG, STREAM_STDERR, STREAM_STDOUT
from flowherd_runner.journal_writer import JournalWriter
from flowherd_runner.masking import Mask
from flowherd_runner.merge import Lines, Merge
from flowherd_runner.text_so_far import TextSoFar

_CHUNK_BYTES = 256 * 1024
#: Between two looks at the other descriptors. More than the channel holds at once, so that what was sent before a chunk
#: of output was written is taken before that chunk.
_MAX_MESSAGES = 1024
#: No shorter text of a message was cut: see record_sender.py and in_fork.py.
_PERHAPS_CUT_CHARS = 1000
#: Bounds the last reading when somebody outside holds a pipe and goes on writing.
_LAST_ROUNDS = 100
#: Logging level of plain output, which has none of its own.
_OUTPUT_LEVEL = 20
#: Optional keys of a record.
_OPTIONAL = ("task_run_id", "flow_run_id")
#: Messages that count only from the flow process itself.
_DECISIVE = ("exception", "finalising", "not_started", "after_end", "in_force")
#: Maximum size of the stack that is kept of an interpreter that is ending.
_MAX_STACK_BYTES = 16 * 1024


class ReadingEnds(NamedTuple):
    """The runner's ends of the flow process's pipes and channel."""

    stdout_fd: int
    stderr_fd: int
    records: socket.socket


class OutputReader:
    """Reads the output of one run, whose flow process is `flow_pid`, from `ends` into `journal`.

    `early` are messages that have been taken from the channel before.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        ends: ReadingEnds,
        merge: Merge,
        mask: Mask,
        journal: JournalWriter,
        on_secret: Callable[[str, str], None],
        flow_pid: int,
        early: Sequence[channel.Received] = (),
    ) -> None:
        self._flow_pid = flow_pid
        self._selector = selector
        self._pipes = {STREAM_STDOUT: ends.stdout_fd, STREAM_STDERR: ends.stderr_fd}
        self._records: Optional[socket.socket] = ends.records
        self._merge = merge
        self._mask = mask
        self._journal = journal
        self._on_secret = on_secret
        self._so_far = {stream: TextSoFar() for stream in self._pipes}
        #: What the flow process told about its end: see channel.py.
        self.exception: Optional[Dict[str, str]] = None
        self.not_started: Optional[str] = None
        self.after_end: Optional[List[str]] = None
        #: Whether the user's function has returned, and only its interpreter has to end.
        self.finalising = False
        self._is_settled = False
        #: What faulthandler has written since then.
        self.stack = b""
        self.lines_cut = 0
        for fd in self._pipes.values():
            os.set_blocking(fd, False)
            selector.register(fd, selectors.EVENT_READ)
        ends.records.setblocking(False)
        selector.register(ends.records, selectors.EVENT_READ)
        for message in early:
            self._receive(message.data, message.sender == flow_pid)

    @property
    def ended(self) -> bool:
        """Whether every process has closed its ends."""
        return not self._pipes and self._records is None

    def deadline(self) -> Optional[float]:
        """When `pump` is due although nothing can be read, by the monotonic clock."""
        times = [self._merge.deadline(), *(so_far.deadline() for so_far in self._so_far.values())]
        return min((time_s for time_s in times if time_s is not None), default=None)

    def pump(self) -> None:
        """Read what is there, one chunk of each, and journal what has its place by now."""
        self._read_round()
        for piece in self._merge.take(time.monotonic()):
            if isinstance(piece, Lines):
                self._add_lines(piece)
            else:
                self._add_message(piece.record)
        self._add_so_far(time.monotonic())
        self._journal.flush()
        if self.finalising and not self._is_settled:
            self._is_settled = True
            self._journal.settle()  # the interpreter ends meanwhile, so the end of the run waits less for the disk

    def close(self) -> None:
        """Stop waiting for more, and journal all that has arrived."""
        for _ in range(_LAST_ROUNDS):
            # What is there already is read however late it is; only waiting for more has an end.
            if not self._read_round():
                break
            self.pump()
        for stream in list(self._pipes):
            self._end_pipe(stream)
        self._read_records()
        self._end_records()
        self.pump()

    def _read_round(self) -> bool:
        """Read one chunk of each stream and all messages; returns whether there was any output."""
        # The streams are read before the channel: see merge.py. They are looked into only after it, because it tells
        # of secrets before they are printed.
        chunks = {stream: self._read_chunk(stream) for stream in self._pipes}
        self._read_records()
        for stream, data in chunks.items():
            if data == b"":
                self._end_pipe(stream)
            else:
                self._merge.feed(stream, data or b"", time.monotonic())
        return any(chunks.values())

    def _read_chunk(self, stream: int) -> Optional[bytes]:
        """One chunk, empty at the end; None when nothing is there now."""
        try:
            return os.read(self._pipes[stream], _CHUNK_BYTES)
        except BlockingIOError:
            return None

    def _end_pipe(self, stream: int) -> None:
        fd = self._pipes.pop(stream)
        self._selector.unregister(fd)
        os.close(fd)
        self._merge.end(stream)

    def _read_records(self) -> None:
        for _ in range(_MAX_MESSAGES):
            if self._records is None:
                return
            try:
                data, sender = channel.receive(self._records)
            except BlockingIOError:
                return
            except OSError:
                data, sender = b"", None
            if data:
                self._receive(data, sender == self._flow_pid)
            else:
                self._end_records()

    def _end_records(self) -> None:
        if self._records is not None:
            self._selector.unregister(self._records)
            self._records.close()
            self._records = None
            self._merge.end_records()

    def _receive(self, data: bytes, from_flow: bool) -> None:
        try:
            message = channel.decode(data)
            streams = tuple(int(stream) for stream in message.get("markers", ()))
        except (ValueError, TypeError, OverflowError):
            if self.finalising:
                self.stack = (self.stack + data)[:_MAX_STACK_BYTES]
            return  # otherwise, the user's code has written to a descriptor that is not its own
        if not from_flow and any(key in message for key in _DECISIVE):
            return  # from a process that the user's code has forked
        if "exception" in message:
            self.exception = self._masked(message["exception"], ("type", "message"))
        elif "finalising" in message:
            self.finalising = True
        elif "not_started" in message:
            self.not_started = self._mask.text(str(message["not_started"]))
        elif "in_force" in message:
            pass  # it counts only before the start (isolation/confirmation.py)
        elif "after_end" in message:
            wanted = message["after_end"]
            self.after_end = [str(name) for name in wanted] if isinstance(wanted, list) else None
        elif "mask" in message:
            given = message["mask"] if isinstance(message["mask"], dict) else {}
            self._on_secret(str(given.get("name", "")), str(given.get("value", "")))
        else:
            self._merge.add_record(str(message.get("id")), streams, message, len(data), time.monotonic())

    def _masked(self, value: Any, keys: Tuple[str, ...]) -> Dict[str, str]:
        found = value if isinstance(value, dict) else {}
        return {key: self._masked_text(str(found.get(key, ""))) for key in keys}

    def _masked_value(self, value: Any) -> Any:
        """A value of JSON's types with secrets replaced in all its texts."""
        if isinstance(value, str):
            return self._masked_text(value)
        if isinstance(value, list):
            return [self._masked_value(item) for item in value]
        if isinstance(value, dict):
            return {self._mask.text(name): self._masked_value(item) for name, item in value.items()}
        return value

    def _masked_text(self, text: str) -> str:
        """`text` with secrets replaced; a long one was perhaps cut on its way, within a secret."""
        if not self._mask or len(text) < _PERHAPS_CUT_CHARS:
            return self._mask.text(text)
        kept, note, number = text.rpartition(channel.CUT_NOTE)
        return self._mask.cut_text(kept) + note + number if note else self._mask.cut_text(text)

    def _add_lines(self, piece: Lines) -> None:
        self._journal.add(piece.stream, _OUTPUT_LEVEL, piece.lines)
        if piece.left_out:
            self.lines_cut += 1
            self._journal.notice("the line above was too long, {} bytes of it were left out".format(piece.left_out))

    def _add_so_far(self, now_s: float) -> None:
        """Journal what the streams have of a line whose end does not come."""
        for stream, so_far in self._so_far.items():
            so_far.look(self._merge.unfinished(stream), now_s)
            if not so_far.is_due(now_s):
                continue
            text = self._merge.so_far(stream, MAX_SO_FAR_BYTES)
            if so_far.is_news(text, now_s):
                self._journal.add_so_far(stream, _OUTPUT_LEVEL, text, so_far.is_standing(now_s))
            so_far.done(text, now_s)

    def _add_message(self, message: Dict[str, Any]) -> None:
        if "notice" in message:
            self._journal.notice(self._mask.text(str(message["notice"])))
            return
        given = message.get("record")
        optional = [key for key in _OPTIONAL if isinstance(given, dict) and key in given]
        record: Dict[str, Any] = self._masked(given, ("logger", "message", *optional))
        if isinstance(given, dict) and isinstance(given.get("info"), dict):
            record["info"] = self._masked_value(given["info"])
        level = message.get("level")
        payload = json.dumps(record, ensure_ascii=False).encode("utf-8", "replace")
        self._journal.add(STREAM_LOG, level if isinstance(level, int) else _OUTPUT_LEVEL, [payload])
