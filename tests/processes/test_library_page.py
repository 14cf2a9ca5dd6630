"""docs/library.md: its examples work, and it has every public name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import flowherd
from flowherd import Agent, LocalAgent, testing
from flowherd.backends.protocol import Backend
from flowherd.host.run_process import RunProcess
from tests.support.example_pages import examples, names_in_prose, run_examples

PAGE = Path(__file__).resolve().parents[2] / "docs" / "library.md"

pytestmark = pytest.mark.usefixtures("no_process_left")


def test_the_examples_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert examples(PAGE).count("assert ") >= 8
    run_examples(PAGE)


def test_the_page_names_all_that_is_public() -> None:
    text = PAGE.read_text(encoding="utf-8")
    signatures = re.findall(r"^```text\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    named = {*re.findall(r"\w+", " ".join(signatures)), *names_in_prose(PAGE)}
    of_classes = {name for kind in (*LocalAgent.__mro__[:-1], RunProcess) for name in vars(kind)}
    of_objects = {*vars(Agent(backend=testing.MemoryBackend())), *vars(LocalAgent(backend=testing.MemoryBackend()))}
    of_backend = vars(testing.MemoryBackend).keys() - vars(Backend).keys() - {"address", "engine"}
    public = {*flowherd.__all__, *testing.__all__, *of_classes, *of_objects, *of_backend}
    assert {name for name in public - named if not name.startswith("_")} == set()
