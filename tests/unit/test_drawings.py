"""The pictures of the documents: made by programs, shown on a page, and without names of the machine they come from."""

from __future__ import annotations

import re
import runpy
import socket
from pathlib import Path
from xml.etree import ElementTree

DOCS = Path(__file__).resolve().parents[2] / "docs"
PICTURES = sorted((DOCS / "pictures").iterdir())
_PROGRAMS = ("draw_life.py", "draw_pages.py", "draw_terminal.py")
PAGES = "\n".join(page.read_text(encoding="utf-8") for page in DOCS.rglob("*.md"))


def test_the_drawing_of_a_runs_life_is_current_and_has_the_steps_of_the_design() -> None:
    script = runpy.run_path(str(DOCS / "draw_life.py"))
    assert script["DRAWING"].read_text(encoding="utf-8") == script["drawing"](), "run: python docs/draw_life.py"
    section = (DOCS / "design.md").read_text(encoding="utf-8").split("## 4. ")[1].split("Where each step is")[0]
    drawn = [event.step for event in script["LIFE"] if getattr(event, "step", "")]
    assert drawn == re.findall(r"^\d+\. \*\*(\w+)\.\*\*", section, re.MULTILINE)


def test_each_picture_is_made_by_a_program_and_shown_on_a_page() -> None:
    source = "".join((DOCS / name).read_text(encoding="utf-8") for name in _PROGRAMS)
    for picture in PICTURES:
        assert f'"{picture.stem}"' in source or f'"{picture.name}"' in source
        assert f"pictures/{picture.name})" in PAGES, f"{picture.name} is on no page"


def test_pictures_show_no_path_or_host_and_need_nothing_from_elsewhere() -> None:
    for picture in (each for each in PICTURES if each.suffix == ".svg"):
        drawing = picture.read_text(encoding="utf-8")
        text = "\n".join(ElementTree.fromstring(drawing).itertext())
        words = set(re.findall(r"[\w.-]+", text))
        assert not words & {"root", "home", "tmp", "localhost", socket.gethostname()}, picture.name
        assert not re.search(r"/\w+/\w+", text), picture.name
        assert re.findall(r"https?://[^\"]+", drawing) == ["http://www.w3.org/2000/svg"], picture.name
