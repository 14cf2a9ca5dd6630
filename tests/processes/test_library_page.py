"""docs/library.md: its examples work, and it has every public name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import flowherd
from flowherd import Agent, LocalAgent, testing
from flowherd.backends.protocol import Backend
from flowherd.host.run_process import RunProcess

PAGE = Path(__file__).resolve().parents[2] / "docs" / "library.md"

pytestmark = pytest.mark.usefixtures("no_process_left")


def examples() -> str:
    """Return all examples as one program, each line at its place in the page, for tracebacks."""
    lines, within = [], False
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        is_fence = line.startswith("```")
        within = line == "```python" if is_fence else within
        lines.append(line if within and not is_fence else "")
    return "\n".join(lines)


def test_the_examples_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    program = examples()
    assert program.count("assert ") >= 8
    exec(compile(program, str(PAGE), "exec", dont_inherit=True), {"__name__": "library_page"})  # noqa: S102


def test_the_page_names_all_that_is_public() -> None:
    text = PAGE.read_text(encoding="utf-8")
    signatures = re.findall(r"^```text\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    in_prose = re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
    named = set(re.findall(r"\w+", " ".join([*signatures, *in_prose])))
    of_classes = {name for kind in (*LocalAgent.__mro__[:-1], RunProcess) for name in vars(kind)}
    of_objects = {*vars(Agent(backend=testing.MemoryBackend())), *vars(LocalAgent(backend=testing.MemoryBackend()))}
    of_backend = vars(testing.MemoryBackend).keys() - vars(Backend).keys() - {"address", "engine"}
    public = {*flowherd.__all__, *testing.__all__, *of_classes, *of_objects, *of_backend}
    assert {name for name in public - named if not name.startswith("_")} == set()
