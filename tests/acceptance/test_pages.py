"""The commands of the tutorials and how-tos are run, and print what the pages show (tests/support/pages.py)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.pages import DOCS, blocks, differences

pytestmark = [pytest.mark.usefixtures("no_process_left"), pytest.mark.slow, pytest.mark.timeout(300)]

#: Pages that share a home and an agent. A page that drains the agent is the last one of its home.
HOMES = [
    ["tutorial/first-flow-run.md"],
    [
        "how-to/declare-flows.md",
        "how-to/move-from-supervisord.md",
        "how-to/back-up-the-server.md",
    ],
    ["how-to/move-from-cron.md", "how-to/upgrade-without-losing-runs.md"],
    ["tutorial/two-minutes.md"],
    ["how-to/uninstall.md"],
]
#: Pages whose commands another test runs, because they need a Prefect.
ELSEWHERE = {"prefect.md", "how-to/serve-a-work-pool.md"}


def test_the_commands_of_pages_work_and_print_what_the_pages_show(tmp_path: Path) -> None:
    """All homes at once, because their commands mostly wait."""
    with ThreadPoolExecutor(max_workers=len(HOMES)) as executor:
        found = executor.map(
            lambda pages: differences([DOCS / page for page in pages], tmp_path / str(HOMES.index(pages))), HOMES
        )
        assert "\n".join(filter(None, found)) == ""


def test_every_page_with_commands_to_run_is_run() -> None:
    with_commands = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md") if blocks(page)}
    assert with_commands == {*ELSEWHERE, *(page for pages in HOMES for page in pages)}
