"""Plain runs: a command, or a Python function. The agent reports all their states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowherd.engines.base import AgentDefaults, Engine
from flowherd.engines.run_config import log_level
from flowherd.errors import UnsupportedStorage
from flowherd.values import FlowRun
from flowherd_runner.contract.spec import RunSpec
from flowherd_runner.contract.variables import KIND_COMMAND, KIND_PYTHON


def _describe(spec: RunSpec, flow_run: FlowRun, config: Mapping[str, Any], _defaults: AgentDefaults) -> RunSpec:
    spec = spec._replace(log_level=log_level(config.get("log_level")))
    storage = flow_run.flow.storage
    if storage["type"] == "Command":
        return spec._replace(kind=KIND_COMMAND, target=_command(storage.get("argv")))
    return spec._replace(kind=KIND_PYTHON, target=_function_or_file(storage.get("ref")))


def _command(argv: object) -> dict[str, Any]:
    if isinstance(argv, list) and argv and all(isinstance(word, str) for word in argv):
        return {"argv": argv}
    raise UnsupportedStorage("Command storage needs argv, a list of words, the program first")


def _function_or_file(ref: object) -> dict[str, Any]:
    if isinstance(ref, str) and (":" in ref or ref.endswith(".py")):
        return {"ref": ref}
    raise UnsupportedStorage(
        "Python storage needs ref, as in module:function, path/to/file.py:function or path/to/file.py"
    )


PLAIN = Engine(
    name="plain",
    recognises=lambda storage: storage.get("type") in ("Command", "Python"),
    describe=_describe,
    kinds=frozenset({KIND_COMMAND, KIND_PYTHON}),
)
