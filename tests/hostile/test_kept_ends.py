"""The file of kept ends, torn anywhere, damaged anywhere, full, removed, on a full disk: it loses only what was hit."""

from __future__ import annotations

import random
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from flowherd.host.store import kept_ends
from flowherd.host.store.kept_ends import MOST_ENDS, KeptEnd, KeptEnds
from flowherd.host.store.state_names import ENDED_RUNS_FILE
from flowherd.states import RunState
from flowherd.values import StateReport

HOUR_S = 3600.0


def end(number: int = 0, message: str = "done", state: RunState = RunState.SUCCESS) -> KeptEnd:
    run_id = str(uuid.UUID(int=number))
    at = datetime.now(timezone.utc) - timedelta(minutes=1)
    report = StateReport(
        flow_run_id=run_id, state=state, message=message, at=at, claim=f"us/{run_id}", pid=4711, reason="exited"
    )
    return KeptEnd(report=report, claimed_version=number, end_version=number + 3, started_at=at)


@contextmanager
def kept_in(place: Path, keep_s: float = HOUR_S, most: int = MOST_ENDS) -> Iterator[KeptEnds]:
    kept = KeptEnds(place, keep_s, most)
    yield kept
    kept.close()


def filled(place: Path, count: int) -> bytes:
    with kept_in(place) as kept:
        for number in range(count):
            kept.add(end(number, message=f"end {number} äö\n\u2028"))
    return (place / ENDED_RUNS_FILE).read_bytes()


def test_an_end_is_read_back_whole_by_the_next_agent(tmp_path: Path) -> None:
    whole = end(7, message="killed by SIGKILL", state=RunState.FAILED)
    with kept_in(tmp_path) as kept:
        kept.add(whole)
        assert kept.get(whole.report.flow_run_id) == whole
    with kept_in(tmp_path) as kept:
        assert kept.get(whole.report.flow_run_id) == whole
        assert kept.get(str(uuid.UUID(int=8))) is None
        again = replace(whole, claimed_version=20)
        kept.add(again)
    with kept_in(tmp_path) as kept:
        assert kept.get(whole.report.flow_run_id) == again, "the later one counts"
    assert (tmp_path / ENDED_RUNS_FILE).stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_torn_anywhere_loses_its_last_end_only(tmp_path: Path) -> None:
    data = filled(tmp_path, 4)
    lines = data.split(b"\n")[:-1]
    borders = [sum(len(line) + 1 for line in lines[:count]) for count in range(5)]
    near = {border + step for border in borders for step in (-2, -1, 0, 1)}
    for size in sorted({*near, *random.sample(range(len(data)), 40)} & set(range(len(data)))):
        (tmp_path / ENDED_RUNS_FILE).write_bytes(data[:size])
        # A line whose newline alone is missing is whole.
        expected = sum(border - 1 <= size for border in borders[1:])
        with kept_in(tmp_path) as kept:
            assert len(kept.ids()) == expected, size
            kept.add(end(99))
        with kept_in(tmp_path) as kept:
            assert len(kept.ids()) == expected + 1, "what is added after a torn line is whole"


def test_whatever_is_in_the_file_only_whole_ends_are_read(tmp_path: Path) -> None:
    data, seed = filled(tmp_path, 30), random.randrange(1 << 30)
    source = random.Random(seed)
    for _ in range(100):
        damaged = bytearray(data)
        for _ in range(source.randint(1, 8)):
            at = source.randrange(len(damaged))
            kind = source.randrange(4)
            if kind == 0:
                damaged[at] = source.randrange(256)
            elif kind == 1:
                del damaged[at : at + source.randint(1, 400)]
            elif kind == 2:
                damaged[at:at] = source.randbytes(source.randint(1, 400))
            else:
                damaged[at:at] = damaged[: source.randint(1, 400)]
        (tmp_path / ENDED_RUNS_FILE).write_bytes(damaged)
        with kept_in(tmp_path) as kept:
            ids = kept.ids()
            for run_id in ids:
                found = kept.get(run_id)
                assert found is not None, seed
                number = uuid.UUID(run_id).int
                assert found.report.message == f"end {number} äö\n\u2028", seed
            kept.add(end(77))
        with kept_in(tmp_path) as kept:
            assert set(kept.ids()) == {*ids, str(uuid.UUID(int=77))}, seed


@pytest.mark.slow
def test_the_newest_ten_thousand_are_kept_in_a_file_of_bounded_size(tmp_path: Path) -> None:
    sizes = []
    with kept_in(tmp_path) as kept:
        for number in range(MOST_ENDS + 3_000):
            kept.add(end(number, message="x" * 5_000 if number % 100 == 0 else "exited with code 0"))
            if number % 500 == 0:
                sizes.append((tmp_path / ENDED_RUNS_FILE).stat().st_size)
        assert len(kept.ids()) == MOST_ENDS
    with kept_in(tmp_path) as kept:
        ids = kept.ids()
        assert ids[0] == str(uuid.UUID(int=MOST_ENDS + 2_999)), "newest first"
        assert ids[-1] == str(uuid.UUID(int=3_000))
        long = kept.get(str(uuid.UUID(int=10_000)))
        assert long is not None
        assert len(long.report.message) == 1_000
    assert max(sizes) < 1.3 * MOST_ENDS * 420


def test_ends_are_forgotten_after_the_time_for_which_they_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with kept_in(tmp_path) as kept:
        kept.add(end(1))
        now_s = kept_ends.time.time()
        monkeypatch.setattr(kept_ends.time, "time", lambda: now_s + HOUR_S + 1)
        assert kept.get(str(uuid.UUID(int=1))) is None
        kept.add(end(2))
        assert kept.ids() == [str(uuid.UUID(int=2))]
    with kept_in(tmp_path, keep_s=0) as kept:
        assert kept.ids() == []
        kept.add(end(3))
    assert str(uuid.UUID(int=3)).encode() not in (tmp_path / ENDED_RUNS_FILE).read_bytes()


def test_a_removed_file_is_made_again_with_all_ends(tmp_path: Path) -> None:
    with kept_in(tmp_path) as kept:
        kept.add(end(1))
        (tmp_path / ENDED_RUNS_FILE).unlink()
        kept.add(end(2))
    with kept_in(tmp_path) as kept:
        assert len(kept.ids()) == 2


def test_what_is_not_a_file_is_left_alone_and_ends_are_kept_in_memory(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("mine")
    (tmp_path / ENDED_RUNS_FILE).symlink_to(tmp_path / "elsewhere")
    with kept_in(tmp_path) as kept:
        kept.add(end(1))
        assert len(kept.ids()) == 1
    assert (tmp_path / "elsewhere").read_text() == "mine"


_ADDS = """
import sys
from pathlib import Path
from flowherd.host.store.kept_ends import KeptEnds
from tests.hostile.test_kept_ends import end
kept = KeptEnds(Path(sys.argv[1]), 3600.0)
for number in range(100_000):
    kept.add(end(number % 300, message=str(number)))
    print(number, flush=True)
"""


def test_a_killed_agent_has_kept_every_end_that_it_has_added(tmp_path: Path) -> None:
    """Killed while it appends and writes anew, at a moment that differs from run to run."""
    adding = subprocess.Popen([sys.executable, "-c", _ADDS, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert adding.stdout is not None
    stop_after = random.randint(900, 2_500)
    for line in adding.stdout:
        if int(line) >= stop_after:
            break
    adding.kill()
    printed = [int(text) for text in adding.stdout.read().split() if text]
    adding.stdout.close()
    adding.wait()
    last = printed[-1] if printed else stop_after
    with kept_in(tmp_path) as kept:
        found = [kept.get(str(uuid.UUID(int=number % 300))) for number in range(last - 299, last + 1)]
    for number, each in zip(range(last - 299, last + 1), found, strict=True):
        assert each is not None
        assert int(each.report.message) >= number
