"""Pages of the documentation whose examples are run, and the names that they mention."""

from __future__ import annotations

import re
from pathlib import Path


def examples(page: Path) -> str:
    """Return all Python examples as one program, each line at its place in the page, for tracebacks."""
    lines, within = [], False
    for line in page.read_text(encoding="utf-8").splitlines():
        is_fence = line.startswith("```")
        within = line == "```python" if is_fence else within
        lines.append(line if within and not is_fence else "")
    return "\n".join(lines)


def run_examples(page: Path) -> None:
    """Run all Python examples of a page as one program."""
    exec(compile(examples(page), str(page), "exec", dont_inherit=True), {"__name__": page.stem})  # noqa: S102


def names_in_prose(page: Path) -> set[str]:
    """Return the words that stand in backquotes outside of examples."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", text))))
