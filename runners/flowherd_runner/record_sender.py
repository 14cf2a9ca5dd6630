"""Sends a flow process's logging records to its runner, with markers that keep their place among its lines of output.

Runs in the user's process and never raises into the user's code. What cannot be sent is printed to standard error.
"""

import os
import sys
from typing import Any, Dict, List, Optional, Tuple

from flowherd_runner import channel
from flowherd_runner.contract.journal import STREAM_STDERR, STREAM_STDOUT
from flowherd_runner.merge import make_marker
from flowherd_runner.osapi import file_identity
from flowherd_runner.secret_values import secret_texts

#: Descriptor of each stream in the flow process.
_FD_OF_STREAM = {STREAM_STDOUT: 1, STREAM_STDERR: 2}


class RecordSender:
    """Sends messages on the descriptor `fd`; `token` distinguishes the run's markers from all that a process prints."""

    def __init__(self, fd: int, token: bytes) -> None:
        self._fd = fd
        self._token = token
        self._identity = file_identity(fd)
        # A descriptor that the user's code has redirected must get no marker.
        self._streams = {stream: file_identity(number) for stream, number in _FD_OF_STREAM.items()}
        self._pid = 0
        self._sent = 0

    @property
    def address(self) -> Tuple[int, bytes]:
        """The arguments for another sender of this run, in a process that has the descriptor too."""
        return self._fd, self._token

    def send(self, message: Dict[str, Any]) -> bool:
        """Send one message; return False when the runner, or the descriptor, is gone."""
        if file_identity(self._fd) != self._identity:
            return False
        try:
            os.write(self._fd, channel.encode(message))
        except OSError:
            return False
        return True

    def record(
        self,
        level: int,
        logger: str,
        message: str,
        task_run_id: Optional[str] = None,
        flow_run_id: Optional[str] = None,
        info: Optional[Dict[str, Any]] = None,
    ) -> None:
        """Send one record, of a task run or of the flow run itself, and mark its place in the streams.

        `flow_run_id` is that of a subflow, whose records belong to a flow run of its own. `info` is what the backend
        gets with the record, made of JSON's types.
        """
        flush_streams()
        if os.getpid() != self._pid:  # the user's code has forked
            self._pid, self._sent = os.getpid(), 0
        self._sent += 1
        identity = "{}-{}".format(self._pid, self._sent)
        marked = [
            stream for stream, expected in self._streams.items() if file_identity(_FD_OF_STREAM[stream]) == expected
        ]
        text = channel.shorten(message)
        record: Dict[str, Any] = {"logger": channel.shorten(logger, 1000), "message": text}
        ids = {"task_run_id": task_run_id, "flow_run_id": flow_run_id}
        record.update((name, channel.shorten(value, 1000)) for name, value in ids.items() if value is not None)
        if info:
            record["info"] = channel.shorten_info(info)
        # A record of an engine's is cut, because standard error cannot carry its ids.
        fits = text is message or any(ids.values())
        if fits and self.send({"record": record, "level": level, "id": identity, "markers": marked}):
            self._mark(marked, make_marker(self._token, identity))
        else:
            _print_to_stderr(message)

    def mask(self, name: str, value: Any) -> None:
        """Have `value`, a secret that this process has read, masked in all that it prints from now on.

        Of a value with parts, such as a dictionary, those that are named like secrets, or else every text in it.
        """
        for text in secret_texts(value):
            if len(text) <= channel.MAX_TEXT_BYTES:
                self.send({"mask": {"name": name, "value": text}})

    @staticmethod
    def _mark(streams: List[int], marker: bytes) -> None:
        for stream in streams:
            try:
                os.write(_FD_OF_STREAM[stream], marker)
            except OSError:
                continue  # the runner waits only a second for a marker


def _print_to_stderr(text: str) -> None:
    """Print `text` as logging does without any configuration (logging.lastResort)."""
    try:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
    except (AttributeError, OSError, RuntimeError, ValueError):
        pass  # missing, closed, or in use by the code that a signal handler has interrupted


def flush_streams() -> None:
    """Write out what Python still buffers of the process's output."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, RuntimeError, ValueError):
            continue  # missing or closed; or a signal handler logs in the middle of a write, which is flushed later
