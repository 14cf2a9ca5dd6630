"""The direction of imports (docs/design.md, section 3), checked over the import statements themselves."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

from tests.support.imports import imported

ROOT = Path(__file__).resolve().parents[2]
PARENT = ROOT / "supervisor" / "flowherd"
SERVER = ROOT / "supervisor" / "flowherd_server"
CHILD = ROOT / "runners" / "flowherd_runner"
PLUGINS = ROOT / "supervisor" / "flowherd_supervisord"

#: Lowest first: a module imports only from its own layer and from lower ones. The longest prefix decides.
LAYERS = [
    (
        "words",
        [
            "",
            "attribute_dict",
            "end_figures",
            "errors",
            "flow_description",
            "flow_rules",
            "flow_run",
            "host_figures",
            "http_connections",
            "http_limits",
            "inspection",
            "isolation",
            "journal_content",
            "lane",
            "line_writer",
            "live_text",
            "log_format",
            "metrics",
            "notify",
            "parameter_names",
            "parameter_types",
            "peer_credentials",
            "phase_times",
            "private_directory",
            "programs",
            "recurring_error",
            "run_token",
            "schedules",
            "shown_text",
            "shown_times",
            "signals",
            "socket_path",
            "standard_streams",
            "states",
            "story",
            "supported_host",
            "thread_lines",
            "times",
            "trace_context",
            "values",
            "web",
            "weights",
        ],
    ),
    ("config", ["config"]),
    ("parts", ["engines", "backends", "client", "host.store", "host.processes", "supervisord"]),
    ("agent", ["agent", "testing"]),
    ("host", ["host"]),
    ("command line", ["cli", "__main__"]),
]
RANK = {prefix: rank for rank, (_, prefixes) in enumerate(LAYERS) for prefix in prefixes}
#: What the server may use of the agent's side.
SERVER_MAY_IMPORT = (
    "flowherd",
    "flowherd.config",
    "flowherd.end_figures",
    "flowherd.errors",
    "flowherd.flow_description",
    "flowherd.flow_rules",
    "flowherd.host_figures",
    "flowherd.http_connections",
    "flowherd.http_limits",
    "flowherd.isolation",
    "flowherd.journal_content",
    "flowherd.lane",
    "flowherd.line_writer",
    "flowherd.log_format",
    "flowherd.metrics",
    "flowherd.notify",
    "flowherd.parameter_names",
    "flowherd.parameter_types",
    "flowherd.peer_credentials",
    "flowherd.phase_times",
    "flowherd.private_directory",
    "flowherd.recurring_error",
    "flowherd.run_token",
    "flowherd.schedules",
    "flowherd.shown_text",
    "flowherd.shown_times",
    "flowherd.signals",
    "flowherd.socket_path",
    "flowherd.standard_streams",
    "flowherd.states",
    "flowherd.story",
    "flowherd.thread_lines",
    "flowherd.times",
    "flowherd.web",
    "flowherd.weights",
)


#: Maximum number of lines of a module.
MAX_LINES = 350


@cache
def modules(root: Path) -> list[Path]:
    return sorted(root.rglob("*.py"))


def dotted(path: Path, root: Path) -> str:
    """The module's name below its package; empty for the package itself."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def rank(name: str) -> int | None:
    """The layer of a module below flowherd; None for names that no layer lists."""
    parts = name.split(".")
    prefixes = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
    return next((RANK[prefix] for prefix in prefixes if prefix in RANK), None)


def offenders(root: Path, forbidden: str | tuple[str, ...]) -> list[str]:
    return [f"{path}: {name}" for path in modules(root) for name in imported(path) if f"{name}.".startswith(forbidden)]


def offending_roots(root: Path, known: set[str]) -> list[str]:
    return [f"{path}: {name}" for path in modules(root) for name in imported(path) if name.split(".")[0] not in known]


def test_every_module_belongs_to_a_layer() -> None:
    assert [name for path in modules(PARENT) if (name := dotted(path, PARENT)) and rank(name) is None] == []


def test_a_module_imports_only_from_its_own_layer_and_from_lower_ones() -> None:
    wrong = []
    for path in modules(PARENT):
        own = rank(dotted(path, PARENT)) if dotted(path, PARENT) else len(LAYERS)  # the package's lazy names
        for name in imported(path):
            other = rank(name.removeprefix("flowherd.")) if name.startswith("flowherd.") else None
            if own is not None and other is not None and other > own:
                wrong.append(f"{path.relative_to(ROOT)}: {name}")
    assert wrong == []


def test_the_agent_does_not_know_the_host() -> None:
    assert offenders(PARENT / "agent", "flowherd.host.") == []


def test_the_server_is_a_neighbour_that_the_agents_side_never_imports() -> None:
    assert offenders(PARENT, "flowherd_server.") == []
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in modules(SERVER)
        for name in imported(path)
        if name.split(".")[0] == "flowherd" and ".".join(name.split(".")[:2]) not in SERVER_MAY_IMPORT
        if name != "flowherd.__version__"
    ]
    assert wrong == []


def test_the_child_side_imports_only_the_standard_library_and_itself() -> None:
    known = {*sys.stdlib_module_names, "flowherd_runner"}
    assert offending_roots(CHILD, known) == []


def test_supervisords_plugins_need_only_the_standard_library_and_supervisor() -> None:
    """They run in the Python of supervisord, which has nothing of flowherd and may be of version 3.7."""
    known = {*sys.stdlib_module_names, "supervisor", "flowherd_supervisord"}
    assert offending_roots(PLUGINS, known) == []
    for path in modules(PLUGINS):
        ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 7))


def test_the_parent_side_knows_only_the_contract_of_the_child_side() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in (*modules(PARENT), *modules(SERVER))
        for name in imported(path)
        if name.startswith("flowherd_runner.") and not name.startswith("flowherd_runner.contract")
        if name != "flowherd_runner.BOOT_FILE"  # the path that is handed to interpreters
    ]
    assert wrong == []


def test_only_the_supervisord_glue_imports_supervisord() -> None:
    users = {
        dotted(path, PARENT).split(".")[0]
        for path in modules(PARENT)
        for name in imported(path)
        if name.split(".")[0] == "supervisor"
    }
    assert users == {"supervisord"}


def test_one_module_installs_signal_handlers() -> None:
    calls = [
        path
        for path in (*modules(PARENT), *modules(SERVER))
        if re.search(r"signal\(|set_wakeup_fd", path.read_text(encoding="utf-8"))
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


def test_no_module_is_longer_than_a_reader_can_keep_in_mind() -> None:
    long = {
        str(path.relative_to(ROOT)): count
        for root in (PARENT, SERVER, PLUGINS, ROOT / "runners")
        for path in modules(root)
        if (count := len(path.read_text().splitlines())) > MAX_LINES
    }
    assert long == {}
