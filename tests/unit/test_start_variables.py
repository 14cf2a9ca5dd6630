"""Which variables of a run need a fork server of their own environment."""

from __future__ import annotations

import pytest

from flowherd.engines.start_variables import start_variables


@pytest.mark.parametrize(
    "name",
    ["PYTHONHASHSEED", "PYTHONUTF8", "PYTHON_GIL", "LD_PRELOAD", "MALLOC_ARENA_MAX", "GLIBC_TUNABLES", "LANG", "LC_C"],
)
def test_what_is_read_at_the_start_counts_when_the_fork_server_would_have_it_otherwise(name: str) -> None:
    assert start_variables({name: "1", "OTHER": "2"}, {}, preloads=False) == ((name, "1"),)
    assert start_variables({name: "1"}, {name: "0"}, preloads=False) == ((name, "1"),)
    assert start_variables({name: "1"}, {name: "1"}, preloads=False) == ()


@pytest.mark.parametrize("name", ["PYTHONPATH", "PYTHONBREAKPOINT", "TZ", "HOME", "PATH", "LANGUAGE", "OLD_LANG"])
def test_what_the_fork_itself_adopts_does_not_count(name: str) -> None:
    assert start_variables({name: "1"}, {}, preloads=True) == ()


def test_what_libraries_read_when_they_are_loaded_counts_with_preloaded_modules() -> None:
    assert start_variables({"OMP_NUM_THREADS": "1"}, {}, preloads=True) == (("OMP_NUM_THREADS", "1"),)
    assert start_variables({"OMP_NUM_THREADS": "1"}, {}, preloads=False) == ()


def test_the_order_of_the_variables_makes_no_difference() -> None:
    one = start_variables({"LANG": "C", "PYTHONUTF8": "1"}, {}, preloads=False)
    assert one == start_variables({"PYTHONUTF8": "1", "LANG": "C"}, {}, preloads=False)
