"""What flows of Prefect ask for at each level of isolation, in tests of every version of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

READ_ONLY = "Read-only file system"
#: A run at each level, and what it asks for; `write` stands for the directory of Prefect's results.
RUNS: dict[str, dict[str, Any]] = {
    "none": {},
    "private": {"level": "private"},
    "sealed": {"level": "sealed"},
    "sealed with results": {"level": "sealed", "write": True},
}
WITHOUT_NETWORK = {"level": "private", "network": "none"}


def variables(asked: Mapping[str, Any], results: Path) -> dict[str, str]:
    """Return the variables of a run config or job that ask for it; `results` is the directory of Prefect's results."""
    words = {**asked, **({"write": json.dumps([str(results)])} if "write" in asked else {})}
    return {f"FLOWHERD__RUNS__ISOLATION__{name.upper()}": value for name, value in words.items()}


def temporary_file(place: Path, name: str) -> Path:
    """Return the path in /tmp that a run of these tests writes to."""
    return Path("/tmp") / f"{place.name} {name}"
