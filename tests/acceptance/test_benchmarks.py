"""The table of figures is measured by one command, here with the smallest numbers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.support.checkout import ROOT


def test_the_table_has_figures_beside_their_floor(tmp_path: Path) -> None:
    found = tmp_path / "found.json"
    command = [sys.executable, "-m", "benchmarks.table", "--rows", "floors", "python", "supervisord", "--n", "1"]
    done = subprocess.run(
        [*command, "--json", str(found)], cwd=ROOT, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr
    figures = {(one["row"], one["what"]): one for one in json.loads(found.read_text())["figures"]}
    line = figures["python", "flowherd, python flow: created -> first line"]
    result = figures["python", "flowherd, python flow: created -> result"]
    assert line["n"] == result["n"] == 1 and 0 < line["median"] < result["median"]
    assert ("floor", "fork, exit and wait of a Python process") in figures
    assert "nothing on the disk" in figures["supervisord", "supervisord: created -> first line"]["note"]
    assert "forks" in done.stdout
