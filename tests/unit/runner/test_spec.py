"""spec.json, checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flowherd_runner.contract.files import SPEC_FILE, write_json
from flowherd_runner.contract.spec import parse_spec, read_spec
from flowherd_runner.errors import SpecError

LEAST = {"flow_run_id": "id", "kind": "command", "target": {"argv": ["true"]}}


def test_what_is_not_given_has_a_default() -> None:
    spec = parse_spec(LEAST)
    assert (spec.parameters, spec.env, spec.working_dir, spec.run_time_s, spec.grace_s) == ({}, {}, None, None, 10.0)
    assert (spec.max_line_bytes, spec.max_journal_bytes, spec.log_level) == (131072, 1 << 30, 20)


def test_whole_numbers_serve_as_seconds() -> None:
    spec = parse_spec({**LEAST, "limits": {"run_time_s": 3, "memory_bytes": 1}, "grace_s": 0, "unknown": 1})
    assert (spec.run_time_s, spec.grace_s) == (3.0, 0.0)


@pytest.mark.parametrize(
    "bad",
    [
        {"kind": None},
        {"target": []},
        {"env": {"A": 1}},
        {"env": {"A=B": "x"}},
        {"masked_env": "A"},
        {"import_paths": [1]},
        {"limits": {"open_files": "many"}},
        {"limits": {"run_time_s": -1}},
        {"limits": {"cpu_time_s": True}},
        {"grace_s": "soon"},
    ],
    ids=str,
)
def test_a_wrong_value_is_refused_by_name(bad: dict[str, Any]) -> None:
    name = next(iter(bad.get("limits", bad)))
    with pytest.raises(SpecError, match=name):
        parse_spec({**LEAST, **bad})


def test_a_missing_or_damaged_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"no spec\.json"):
        read_spec(str(tmp_path))
    (tmp_path / SPEC_FILE).write_text("{")
    with pytest.raises(SpecError):
        read_spec(str(tmp_path))


def test_a_file_of_a_newer_contract_is_refused(tmp_path: Path) -> None:
    write_json(str(tmp_path), SPEC_FILE, LEAST, sync=False)
    path = tmp_path / SPEC_FILE
    path.write_text(path.read_text().replace('"contract": 1', '"contract": 99'))
    with pytest.raises(SpecError, match="99"):
        read_spec(str(tmp_path))
