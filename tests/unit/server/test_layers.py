"""The map in flowherd_server/__init__.py: a module imports only from its own layer and from lower ones."""

from __future__ import annotations

from pathlib import Path

import flowherd_server
from tests.support.imports import imported

ROOT = Path(flowherd_server.__file__).parent
#: Folders and top modules, lowest first.
LAYERS = [
    {"errors", "label_rule"},
    {"offers"},
    {"call"},
    {"store"},
    {"graphql"},
    {"runs", "rules"},
    {"notify", "schedules"},
    {"mutations"},
    {"background", "database_watch"},
    {"service"},
    {"web", "lane", "pages"},
    {"maintenance", "port_holder", "reload", "serve", "server_files"},
    {"__main__"},
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def top(path: Path) -> str:
    """Return the folder of a module, or its name if it lies at the top."""
    return path.relative_to(ROOT).with_suffix("").parts[0]


def of_server(path: Path) -> set[str]:
    """Return the folders and top modules of flowherd_server that a file imports from."""
    return {name.split(".")[1] for name in imported(path) if name.startswith("flowherd_server.")} & RANK.keys()


def test_every_module_has_a_layer_and_imports_nothing_above_it() -> None:
    modules = [path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py"]
    assert {top(path) for path in modules} == RANK.keys()
    wrong = [f"{path}: {name}" for path in modules for name in of_server(path) if RANK[name] > RANK[top(path)]]
    assert wrong == []
