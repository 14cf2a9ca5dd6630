"""The space on the disk that is reserved for an exit record: still there when the record is written."""

from __future__ import annotations

from pathlib import Path

from flowherd_runner.contract.files import EXIT_FILE, read_json, read_unnamed, write_prepared
from flowherd_runner.exit_space import reserve_exit_record

RESERVED_BYTES = 64 * 1024


def taken_bytes(path: Path) -> int:
    return 512 * path.stat().st_blocks


def test_the_record_is_written_into_the_reserved_space_which_is_no_record_before(tmp_path: Path) -> None:
    reserve_exit_record(str(tmp_path))
    assert taken_bytes(tmp_path / f".{EXIT_FILE}.new") >= RESERVED_BYTES
    assert read_unnamed(str(tmp_path), EXIT_FILE) is None
    write_prepared(str(tmp_path), EXIT_FILE, {"reason": "exited"})
    assert read_json(str(tmp_path), EXIT_FILE) == {"reason": "exited", "contract": 1}
    assert taken_bytes(tmp_path / EXIT_FILE) >= RESERVED_BYTES


def test_what_was_written_before_is_replaced_as_a_whole(tmp_path: Path) -> None:
    (tmp_path / f".{EXIT_FILE}.new").write_text("x" * 1000)
    reserve_exit_record(str(tmp_path))
    write_prepared(str(tmp_path), EXIT_FILE, {"reason": "exited"})
    assert read_json(str(tmp_path), EXIT_FILE) == {"reason": "exited", "contract": 1}
