"""Which way knowledge flows (docs/design.md, section 3), held over the import statements themselves."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PARENT = ROOT / "supervisor" / "flowherd"
CHILD = ROOT / "runners" / "flowherd_runner"

#: Lowest first; a module imports only from its own layer or from lower ones.
LAYERS = [
    ["errors", "states", "values", "conf_files", "signals", "notify", "faults", "trouble", "__init__"],
    ["decisions"],
    ["config"],
    ["processes", "store", "backends", "logs"],
    ["runs"],
    ["control"],
    ["api"],
    ["control_socket"],
    ["claims"],
    ["agent", "winding_down"],
    ["local_agent"],
    ["server", "supervisord"],
    ["cli", "__main__"],
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def modules(root: Path) -> list[Path]:
    return sorted(root.rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """The dotted names that a file imports, anywhere in it; `from a import b` counts as a and as a.b."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def top(path: Path, root: Path) -> str:
    first = path.relative_to(root).parts[0]
    return first.removesuffix(".py")


@pytest.mark.parametrize("path", modules(CHILD), ids=lambda path: str(path.relative_to(CHILD)))
def test_the_child_side_imports_only_the_standard_library_and_itself(path: Path) -> None:
    for name in imported(path):
        package = name.split(".")[0]
        assert package == "flowherd_runner" or package in sys.stdlib_module_names, f"{path} imports {name}"


@pytest.mark.parametrize("path", modules(PARENT), ids=lambda path: str(path.relative_to(PARENT)))
def test_the_parent_side_knows_only_the_contract_of_the_child_side(path: Path) -> None:
    for name in imported(path):
        if name.startswith("flowherd_runner."):
            assert name.startswith("flowherd_runner.contract"), f"{path} imports {name}"


@pytest.mark.parametrize("path", modules(PARENT), ids=lambda path: str(path.relative_to(PARENT)))
def test_layers_import_only_lower_ones(path: Path) -> None:
    own = RANK[top(path, PARENT)]
    for name in imported(path):
        parts = name.split(".")
        if parts[0] == "flowherd" and len(parts) > 1 and parts[1] in RANK:
            lazy_package_names = path == PARENT / "__init__.py"
            assert RANK[parts[1]] <= own or lazy_package_names, f"{path} imports {name} from above"


@pytest.mark.parametrize("path", modules(PARENT / "server"), ids=lambda path: path.name)
def test_the_server_never_imports_backends_or_agents(path: Path) -> None:
    forbidden = ("flowherd.backends", "flowherd.agent", "flowherd.local_agent", "flowherd.runs", "flowherd.processes")
    assert [name for name in imported(path) if name.startswith(forbidden)] == []


@pytest.mark.parametrize("path", modules(PARENT / "backends"), ids=lambda path: path.name)
def test_backends_never_import_the_server(path: Path) -> None:
    assert [name for name in imported(path) if name.startswith("flowherd.server")] == []


def test_only_the_supervisord_glue_imports_supervisord() -> None:
    users = {
        top(path, PARENT) for path in modules(PARENT) for name in imported(path) if name.split(".")[0] == "supervisor"
    }
    assert users == {"supervisord"}


def test_one_module_installs_signal_handlers() -> None:
    calls = [
        path
        for path in modules(PARENT)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("signal.signal", "signal.set_wakeup_fd")
    ]
    assert set(calls) == {PARENT / "signals.py"}


def test_supervisor_is_supervisords_own_package_even_from_the_projects_root() -> None:
    where = subprocess.run(
        [sys.executable, "-c", "import supervisor; print(supervisor.__file__)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "site-packages" in where


def test_the_source_roots_are_no_packages() -> None:
    assert not (ROOT / "supervisor" / "__init__.py").exists()
    assert not (ROOT / "runners" / "__init__.py").exists()
