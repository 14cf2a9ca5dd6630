"""The project's documents: lengths, links, the index, and the names of files and tests that they mention."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
INDEX = ROOT / "docs" / "README.md"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]

PROSE_COLUMNS = 100
#: A table's line cannot be wrapped, so it may be longer; what needs more is written as a list.
TABLE_COLUMNS = 130
README_LINES = 150
README_COLUMNS = 130

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`]+)`")
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
_FILE = re.compile(r"[\w-][\w.-]*(?:/[\w.-]+)+\.(?:py|md|toml|conf|service)")
_MODULE = re.compile(r"\w+\.py")
#: Where the path of a file that a document mentions may begin.
_ROOTS = [
    ROOT / name
    for name in (
        "",
        "supervisor",
        "supervisor/flowherd",
        "supervisor/flowherd_server",
        "supervisor/flowherd_supervisord",
        "runners",
        "runners/flowherd_runner",
    )
]
#: Pages that name modules by their file name alone.
_PAGES_WITH_MODULES = [ROOT / "docs" / name for name in ("design.md", "prefect3.md", "reliability.md")]


def lines_outside_code(page: Path) -> Iterator[tuple[int, str]]:
    """Yield the numbered lines of a page that are neither fenced nor indented code."""
    fenced = False
    before = ""
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced and not (line.startswith("    ") and (not before.strip() or before.startswith("    "))):
            yield number, line
        before = line


def text_outside_code(page: Path) -> str:
    return "\n".join(line for _, line in lines_outside_code(page))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", text_outside_code(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def is_too_long(line: str) -> bool:
    if line.startswith("|"):
        return len(line) > TABLE_COLUMNS
    return len(line) > PROSE_COLUMNS and " " in line.strip().lstrip("-*").strip()  # one long word cannot be wrapped


@cache
def module_names() -> frozenset[str]:
    return frozenset(path.name for name in ("supervisor", "runners", "tests") for path in (ROOT / name).rglob("*.py"))


def is_there(path: str) -> bool:
    return any((root / path).exists() for root in _ROOTS)


def test_readme_is_short() -> None:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= README_LINES
    assert [line for line in lines if len(line) > README_COLUMNS] == []


def test_prose_is_wrapped() -> None:
    found = [
        (page.relative_to(ROOT), number)
        for page in PAGES
        for number, line in lines_outside_code(page)
        if is_too_long(line)
    ]
    assert found == []


def test_links_between_documents_resolve() -> None:
    broken = []
    for page in PAGES:
        for target in _LINK.findall(text_outside_code(page)):
            path, _, anchor = target.partition("#")
            other = (page.parent / path).resolve() if path else page
            is_external = re.match(r"[a-z]+:", path)
            if not is_external and (not other.exists() or (anchor and anchor not in anchors(other))):
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert broken == []


def test_the_index_links_every_page() -> None:
    linked = {(INDEX.parent / target).resolve() for target in _LINK.findall(INDEX.read_text(encoding="utf-8"))}
    assert [str(page) for page in sorted((ROOT / "docs").rglob("*.md")) if page != INDEX and page not in linked] == []


def test_the_files_that_documents_name_exist() -> None:
    missing = []
    for page in PAGES:
        for name in _CODE.findall(text_outside_code(page)):
            named_path = _FILE.fullmatch(name) and not is_there(name)
            named_module = page in _PAGES_WITH_MODULES and _MODULE.fullmatch(name) and name not in module_names()
            if named_path or named_module:
                missing.append(f"{page.relative_to(ROOT)}: {name}")
    assert missing == []


def test_the_tests_that_documents_name_exist() -> None:
    named = [test for page in PAGES for test in _TEST.findall(page.read_text(encoding="utf-8"))]
    assert len(named) > 20
    assert [f"{file}::{test}" for file, test in named if f"def {test}(" not in (ROOT / file).read_text()] == []
