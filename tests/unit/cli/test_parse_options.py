"""What people write on a command line is read as they mean it, or refused with an example."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowherd.cli import exit_codes, parse_options
from flowherd.cli.failures import CommandError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("10m", 600), ("1.5h", 5400), ("1h30m", 5400), ("2d", 172800), ("250ms", 0.25), ("0", 0)],
)
def test_a_duration(text: str, seconds: float) -> None:
    assert parse_options.duration_s(text, "--timeout") == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "soon", "-5", "5 m", "1h30", "10x", "m", "1..5s", "1e3", "٣s"])
def test_what_is_not_a_duration_is_refused(text: str) -> None:
    with pytest.raises(CommandError, match="--in") as caught:
        parse_options.duration_s(text, "--in")
    assert caught.value.exit_code == exit_codes.USAGE


def test_where_secrets_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse_options.secret_sources(["A=file:/run/secrets/a", "B=env:B", "C=file:c=1:2", "D=file:~/d"]) == {
        "A": "file:/run/secrets/a",
        "B": "env:B",
        "C": f"file:{tmp_path}/c=1:2",
        "D": "file:~/d",
    }


@pytest.mark.parametrize("text", ["hunter22", "=hunter22", "A=hunter22", "A=file:", "A=env:", "A=vault:hunter22"])
def test_a_secret_itself_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(CommandError, match="--secret") as caught:
        parse_options.secret_sources([text])
    assert caught.value.exit_code == exit_codes.USAGE
    assert "hunter22" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "size"),
    [("4096", 4096), ("200M", 200 << 20), ("1.5G", 3 << 29), ("64k", 65536), ("1 GiB", 1 << 30), ("10MB", 10 << 20)],
)
def test_a_size(text: str, size: int) -> None:
    assert parse_options.size_bytes(text, "--memory") == size


@pytest.mark.parametrize("text", ["", "lots", "-1", "0", "1X", "M", "1,5G"])
def test_what_is_not_a_size_is_refused(text: str) -> None:
    with pytest.raises(CommandError, match="--memory"):
        parse_options.size_bytes(text, "--memory")


def test_the_value_of_a_pair_may_contain_equals_signs() -> None:
    assert parse_options.pairs(["A=b=c=", "B="], "-e") == {"A": "b=c=", "B": ""}


@pytest.mark.parametrize("text", ["A", "=b", ""])
def test_what_is_not_a_pair_is_refused(text: str) -> None:
    with pytest.raises(CommandError, match="-e"):
        parse_options.pairs([text], "-e")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("x=1", 1),
        ("x=true", True),
        ("x=null", None),
        ('x={"a": [1]}', {"a": [1]}),
        ('x="1"', "1"),
        ("x=Ada Lovelace", "Ada Lovelace"),
        ("x=", ""),
        ("x=NaN", "NaN"),
        ("x=[1", "[1"),
    ],
)
def test_a_parameter_is_json_if_possible_else_text(text: str, value: object) -> None:
    assert parse_options.parameters([text]) == {"x": value}


def test_a_moment_without_an_offset_is_local_time() -> None:
    assert parse_options.moment("2030-01-31T08:00:00Z", "--at") == datetime(2030, 1, 31, 8, tzinfo=timezone.utc)
    assert parse_options.moment("2030-01-31T08:00+02:00", "--at") == datetime(2030, 1, 31, 6, tzinfo=timezone.utc)
    assert parse_options.moment("2030-01-31 08:00", "--at") == datetime(2030, 1, 31, 8).astimezone()
    with pytest.raises(CommandError, match="--at"):
        parse_options.moment("tomorrow", "--at")


@given(st.floats(min_value=0, max_value=1e8))
def test_a_duration_in_seconds_is_read_as_it_is_written(seconds: float) -> None:
    assert parse_options.duration_s(f"{seconds:f}s", "--in") == pytest.approx(seconds, abs=1e-6)
