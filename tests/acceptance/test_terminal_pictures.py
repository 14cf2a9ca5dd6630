"""docs/draw_terminal.py and docs/draw_pages.py still make all pictures of the documents."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"

pytestmark = [pytest.mark.usefixtures("no_process_left"), pytest.mark.slow]


@pytest.mark.full
def test_the_pictures_of_the_terminal_can_be_made(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, DOCS / "draw_terminal.py", tmp_path], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {path.name for path in (DOCS / "pictures").glob("*.svg")} - {"life-of-a-run.svg"}
    text = " ".join(ElementTree.parse(tmp_path / "ps.svg").getroot().itertext()).replace("\xa0", " ")
    assert all(word in text for word in ("Running", "Late", "Failed", "Scheduled"))


@pytest.mark.full
def test_the_pictures_of_the_pages_can_be_made(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, DOCS / "draw_pages.py", tmp_path], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {path.name for path in (DOCS / "pictures").glob("*.png")}
