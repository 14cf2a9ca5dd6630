"""The site: the documents of this checkout as HTML, by Sphinx.

    pip install -e '.[docs]'
    python -m sphinx -W --keep-going -q -c docs . build/site

The first command installs what is needed, the second builds, and fails on a warning or a link that leads nowhere. The
sources are the files that GitHub shows; nothing is written for the site alone. Its navigation is the index,
docs/README.md. No page loads anything from another host.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from pygments.lexers.special import TextLexer

_ROOT = Path(__file__).resolve().parents[1]
_INDEX = "docs/README.md"
_PARTS = re.compile(r"^## ([^:\n]+)(?:: .*)?$", re.MULTILINE)
_LINK = re.compile(r"\]\(([\w./-]+)\.md\)")

project = "flowherd"
release = re.findall(
    r'__version__ = "(.*)"', (_ROOT / "supervisor" / "flowherd" / "__init__.py").read_text(encoding="utf-8")
)[0]
author = "the flowherd authors"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
root_doc = "README"
include_patterns = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/**.md"]
#: Directories that are not even looked through.
exclude_patterns = [".*", "*.egg-info", "benchmarks", "build", "conf", "dist", "runners", "supervisor", "tests"]
myst_heading_anchors = 4

html_theme = "furo"
html_title = f"flowherd {release}"
html_use_index = False
html_copy_source = False
html_show_copyright = False


def setup(app: Any) -> None:
    """Add the navigation to the front page, and make that the page that a server shows first."""
    app.add_lexer("mermaid", TextLexer)  # GitHub draws these; here they are shown as text
    app.connect("source-read", _add_navigation)
    app.connect("build-finished", _copy_front_page)


def _add_navigation(app: Any, document: str, source: list[str]) -> None:
    if document == root_doc:
        source[0] += _navigation((Path(app.srcdir) / _INDEX).read_text(encoding="utf-8"))


def _navigation(index: str) -> str:
    """Return a table of contents with a part for each part of the index. A page that is linked twice is listed once."""
    trees, seen = [_tree("All pages", [_INDEX.removesuffix(".md")])], set[str]()
    _, *parts = _PARTS.split(index)
    for title, text in zip(parts[::2], parts[1::2], strict=True):
        names = dict.fromkeys(f"docs/{name}".replace("docs/../", "") for name in _LINK.findall(text))
        trees.append(_tree(title, [name for name in names if name not in seen]))
        seen.update(names)
    return "\n".join(trees)


def _tree(title: str, names: list[str]) -> str:
    return "\n".join(["", "```{toctree}", ":hidden:", f":caption: {title}", "", *names, "```", ""])


def _copy_front_page(app: Any, failure: Exception | None) -> None:
    if failure is None and app.builder.format == "html":
        front = Path(app.outdir) / f"{root_doc}.html"
        if front.exists():
            shutil.copy(front, front.with_name("index.html"))
