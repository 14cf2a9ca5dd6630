"""Sends the agent's log to systemd's journal by its native protocol, so that journalctl can select by fields.

Source: systemd's "Native Journal Protocol" (https://systemd.io/JOURNAL_NATIVE_PROTOCOL/) and systemd.journal-fields(7).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import socket
import struct
import traceback
from typing import TYPE_CHECKING, Any

from flowherd.agent.agent_logger import FROM_STANDARD_LOGGER
from flowherd.log_format import SHOWN_FIELDS

if TYPE_CHECKING:
    from loguru import Record

#: Where journald listens; a list, because a test listens elsewhere.
SOCKET = ["/run/systemd/journal/socket"]
#: Fields of a line that are no one's data.
_OWN_FIELDS = frozenset({"short", FROM_STANDARD_LOGGER, *SHOWN_FIELDS})
#: What syslog calls the levels (sd-daemon(3)), from this number of loguru's on.
_PRIORITIES = ((50, 2), (40, 3), (30, 4), (25, 5), (20, 6), (0, 7))
_NOT_IN_NAME = re.compile(r"[^A-Z0-9_]")
#: Maximum length of a field's name (journald's own).
_MAX_NAME = 64
#: All of these: nobody changes what was passed to journald.
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class Journal:
    """The journal of this host. Raises OSError, which says what to do, if there is none."""

    def __init__(self) -> None:
        (self._path,) = SOCKET
        with _socket() as probe:
            try:
                probe.connect(self._path)
            except OSError as error:
                detail = f"no journald listens at {self._path} ({error.strerror}); leave out --log-journald"
                raise OSError(error.errno, detail) from error

    def send(self, record: Record) -> bool:
        """Send a line without waiting. Returns False if journald does not take it now."""
        # By a socket of its own, because a journald that was started again has made its own anew.
        with contextlib.suppress(OSError), _socket() as out:
            _send(out, self._path, _entry(record))
            return True
        return False


def _socket() -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)


def _send(out: socket.socket, path: str, data: bytes) -> None:
    try:
        out.sendto(data, path)
    except OSError as error:
        if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
            raise
        _send_as_file(out, path, data)


def _send_as_file(out: socket.socket, path: str, data: bytes) -> None:
    memory = os.memfd_create("journal-entry", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with os.fdopen(os.dup(memory), "wb") as file:
            file.write(data)
        fcntl.fcntl(memory, fcntl.F_ADD_SEALS, _SEALS)
        # Not by socket.send_fds: in Python 3.11 it leaves out the address.
        out.sendmsg([b""], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", memory))], 0, path)
    finally:
        os.close(memory)


def _entry(record: Record) -> bytes:
    level = record["level"].no
    message, exception = record["message"], record["exception"]
    if exception is not None:
        message += "\n" + "".join(traceback.format_exception(*exception)).rstrip()
    fields: dict[str, Any] = {
        "MESSAGE": message,
        "PRIORITY": next(priority for lowest, priority in _PRIORITIES if level >= lowest or lowest == 0),
        "SYSLOG_IDENTIFIER": "flowherd",
        "CODE_FILE": record["file"].path,
        "CODE_LINE": record["line"],
        "CODE_FUNC": record["function"],
    }
    for name, value in record["extra"].items():
        if name not in _OWN_FIELDS and value is not None:
            fields[field_name(name)] = value
    return b"".join(_field(name, str(value)) for name, value in fields.items())


def field_name(name: str) -> str:
    """Return the field of the journal for one of a line's own: FLOWHERD_RUN_ID for run_id."""
    return f"FLOWHERD_{_NOT_IN_NAME.sub('_', name.upper())}"[:_MAX_NAME]


def _field(name: str, value: str) -> bytes:
    data = value.encode("utf-8", "surrogateescape")
    if b"\n" in data:
        return name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"
    return name.encode() + b"=" + data + b"\n"
