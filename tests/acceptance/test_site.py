"""The site of the documents (docs/conf.py): it builds without a warning, and its pages load nothing from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.peers.environments import REQUIRED, Unavailable
from tests.support.checkout import ROOT
from tests.support.docs_site import build

pytestmark = [pytest.mark.usefixtures("no_process_left"), pytest.mark.slow, pytest.mark.timeout(600)]

CONFIGURATION = ROOT / "docs"
#: What a browser loads by itself; `a` is for the reader to follow.
LOADING = {"src", "srcset", "data", "poster", "xlink:href", "action", "background"}
OUTSIDE = re.compile(r"\s*(?:[a-z]+:)?//", re.IGNORECASE)
STYLES = re.compile(r"(?:url\(|@import)\s*[\"']?\s*(?:https?:)?//[\w.-]+", re.IGNORECASE)
#: A script's requests; the addresses in its comments are left out.
SCRIPTS = re.compile(r"(?:fetch|import|importScripts|open|src\s*=)\s*\(?\s*[\"'`](?:https?:)?//[\w.-]+")


class Loads(HTMLParser):
    """Collects the addresses of other hosts that a page or a drawing loads."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = LOADING if tag == "a" else {*LOADING, "href"}
        self.found += [
            f"<{tag} {name}={value}>" for name, value in attrs if name in names and OUTSIDE.match(value or "")
        ]


def loads(path: Path) -> Iterator[str]:
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix in (".html", ".svg"):
        parser = Loads()
        parser.feed(text)
        yield from parser.found
    yield from STYLES.findall(text)
    if path.suffix in (".html", ".js"):
        yield from SCRIPTS.findall(text)


def built(source: Path, place: Path, configuration: Path = CONFIGURATION) -> str:
    """Build; return what is wrong, and an empty text if nothing is."""
    try:
        done = build(source, configuration, place)
    except Unavailable as error:
        if REQUIRED:
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))
    assert (done.returncode == 0) == (not done.stderr), done.stdout + done.stderr
    return done.stderr


def test_the_site_builds_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    assert built(ROOT, tmp_path) == ""
    files = [path for path in tmp_path.rglob("*") if path.suffix in (".html", ".css", ".js", ".svg")]
    pages = {str(path.relative_to(tmp_path).with_suffix(".md")) for path in files if path.suffix == ".html"}
    assert {str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")} < pages
    assert (tmp_path / "index.html").read_text() == (tmp_path / "README.html").read_text()
    assert [f"{path.relative_to(tmp_path)}: {found}" for path in files for found in loads(path)] == []


def test_a_link_that_leads_nowhere_fails_the_build(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (tmp_path / "README.md").write_text("# Front\n\n[Index](docs/README.md)\n")
    (docs / "README.md").write_text("# Index\n\n## All\n\n[page](page.md) [no](missing.md) [part](page.md#missing)\n")
    (docs / "page.md").write_text("# Page\n")
    wrong = built(tmp_path, tmp_path / "site")
    assert "missing.md" in wrong and "'missing'" in wrong


def test_what_would_be_loaded_from_elsewhere_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(
        '<a href="https://a.example">fine</a><script src="https://b.example/x.js"></script>'
        '<link href="//c.example/x.css"><style>@import "https://d.example"; p {background: url(http://e.example)}</style>'
        "<script>// https://f.example\nfetch('https://g.example')</script>"
    )
    found = " ".join(loads(page))
    assert {host for host in "abcdefg" if f"{host}.example" in found} == set("bcdeg")
