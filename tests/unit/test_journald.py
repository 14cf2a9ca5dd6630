"""The agent's log in systemd's journal: a real datagram socket receives what journald would."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from loguru import logger

from flowherd.agent import agent_log, journald
from flowherd.config.records import Logging

RUN_ID = "11111111-2222-3333-4444-555555555555"


class Receiver:
    """What journald does with its socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(10)

    def entry(self) -> dict[str, str]:
        """Return the fields of the next entry, as its native protocol has them."""
        data, descriptors, _, _ = socket.recv_fds(self._socket, 1 << 20, 1)
        if descriptors:
            with os.fdopen(descriptors[0], "rb") as file:
                file.seek(0)
                data = file.read()
        fields = {}
        while data:
            head, _, data = data.partition(b"\n")
            name, equals, value = head.partition(b"=")
            if not equals:
                (length,) = struct.unpack_from("<Q", data)
                value, data = data[8 : 8 + length], data[8 + length + 1 :]
            fields[name.decode()] = value.decode()
        return fields

    def end(self) -> None:
        self._socket.close()
        self.path.unlink(missing_ok=True)


@pytest.fixture
def receiver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setattr(journald, "SOCKET", [str(tmp_path / "journal")])
    receiver = Receiver(tmp_path / "journal")
    yield receiver
    receiver.end()
    logger.configure(handlers=[], extra={}, patcher=lambda record: None)


def test_a_line_about_a_run_has_fields_by_which_journalctl_selects(
    receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    agent_log.configure("INFO", Logging(journald=True))
    logger.bind(run_id=RUN_ID, run="brave-fox", flow="nightly", state="Failed").warning("Failed: exit code {}", 3)
    logger.debug("not sent")
    entry = receiver.entry()
    assert (entry["MESSAGE"], entry["PRIORITY"], entry["SYSLOG_IDENTIFIER"]) == ("Failed: exit code 3", "4", "flowherd")
    own = {name: value for name, value in entry.items() if name.startswith("FLOWHERD_")}
    assert own == {
        "FLOWHERD_RUN_ID": RUN_ID,
        "FLOWHERD_RUN": "brave-fox",
        "FLOWHERD_FLOW": "nightly",
        "FLOWHERD_STATE": "Failed",
    }
    agent_log.flush()
    assert capsys.readouterr().err == "", "twice in the journal, whose service's standard error goes there too"


def test_texts_of_others_make_no_fields_and_break_no_entry(receiver: Receiver) -> None:
    agent_log.configure("INFO", Logging(journald=True))
    evil = "one\nPRIORITY=0\nMESSAGE=forged\ud800"
    logger.bind(run_id=RUN_ID, flow=evil.replace("\ud800", ""), **{"a b\n": 1}).error("{}", "two\nlines")
    entry = receiver.entry()
    assert (entry["MESSAGE"], entry["PRIORITY"]) == ("two\nlines", "3")
    assert entry["FLOWHERD_FLOW"] == "one\nPRIORITY=0\nMESSAGE=forged"
    assert entry["FLOWHERD_A_B_"] == "1"


def test_an_entry_larger_than_a_datagram_is_passed_as_a_file_and_a_traceback_with_its_line(receiver: Receiver) -> None:
    agent_log.configure("INFO", Logging(journald=True))
    logger.info("x" * 3_000_000)
    message = receiver.entry()["MESSAGE"]
    assert (len(message), set(message)) == (3_000_000, {"x"})
    try:
        raise ValueError("broken")
    except ValueError:
        logger.exception("Unexpected")
    assert receiver.entry()["MESSAGE"].endswith("ValueError: broken")


def test_what_the_journal_does_not_take_goes_to_standard_error_and_a_new_journald_gets_the_next(
    receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    agent_log.configure("INFO", Logging(journald=True))
    receiver.end()
    logger.info("meanwhile")
    agent_log.flush()
    assert "INFO    meanwhile" in capsys.readouterr().err
    later = Receiver(receiver.path)
    logger.info("again")
    assert later.entry()["MESSAGE"] == "again"
    later.end()


def test_without_journald_the_log_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journald, "SOCKET", [str(tmp_path / "none")])
    with pytest.raises(OSError, match="leave out --log-journald"):
        agent_log.configure("INFO", Logging(journald=True))
