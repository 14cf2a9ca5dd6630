"""axe-core, from a package of PyPI: it looks at a page in a browser for what WCAG 2.2 AA forbids."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
#: Links that are narrow for density, each with another one to the same: the key `y` copies the link of a line, and the
#: list of a flow's runs has all that its strip shows.
_ALLOWED = {"target-size": "#lines, .strip"}
#: What sticks to an edge covers other links only until one scrolls.
_UNSTICK = (
    """() => document.querySelectorAll(".top, .bulk, thead.stay th").forEach(e => { e.style.position = "static"; })"""
)
_RUN = """async ([rules, allowed]) => {
  const found = await axe.run(document, {runOnly: rules, resultTypes: ["violations"]});
  return found.violations.map(v => [v.id, v.help, v.nodes
    .filter(n => !(allowed[v.id] && document.querySelector(n.target[0])?.closest(allowed[v.id])))
    .map(n => n.html.slice(0, 200))]).filter(v => v[2].length);
}"""


def violations(page: Page) -> list[str]:
    """Return what axe-core finds, each with the rule and the first elements."""
    page.evaluate(_script())
    page.evaluate(_UNSTICK)
    found: list[tuple[str, str, list[Any]]] = page.evaluate(_RUN, [_RULES, _ALLOWED])
    return [f"{rule} ({help_}), {len(nodes)} times: {nodes[:3]}" for rule, help_, nodes in found]


@cache
def _script() -> str:
    spec = importlib.util.find_spec("axe_playwright_python")
    assert spec is not None and spec.origin is not None, "axe_playwright_python is missing: pip install -e '.[test]'"
    return (Path(spec.origin).with_name("axe.min.js")).read_text(encoding="utf-8")
