"""Run configs as objects, for subclasses that ask for them as those of Prefect's agents do."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from flowherd.values import FlowRun

AnyRunConfig = TypeVar("AnyRunConfig")

#: The run config that fits every agent.
_UNIVERSAL = "UniversalRun"
#: Keys of a stored run config that say what it is.
_ABOUT_ITSELF = frozenset({"type", "__version__"})


class LocalRun:
    """How to run a flow run as a process of this host: its attributes are the keys of the stored run config."""

    def __init__(
        self,
        *,
        env: Mapping[str, str | None] | None = None,
        working_dir: str | None = None,
        labels: Iterable[str] | None = None,
        **more: Any,
    ) -> None:
        self.env = dict(env) if env is not None else None
        self.working_dir = working_dir
        self.labels = set(labels or ())
        for name, value in more.items():
            setattr(self, name, value)


def stored_run_config(flow_run: FlowRun) -> Mapping[str, Any]:
    """Return the run config of the run, or else of its flow; empty if neither has one."""
    return getattr(flow_run, "run_config", None) or getattr(flow_run.flow, "run_config", None) or {}


def load_run_config(flow_run: FlowRun, run_config_class: type[AnyRunConfig]) -> AnyRunConfig:
    """Return the run config of a run as an object of this class, which takes the stored keys as arguments.

    A UniversalRun fits every class; without a run config the class is called without arguments. Raises TypeError for a
    run config of another type.
    """
    stored = stored_run_config(flow_run)
    kind = stored.get("type", run_config_class.__name__)
    if kind not in (_UNIVERSAL, run_config_class.__name__):
        wanted = run_config_class.__name__
        raise TypeError(f"Flow run {flow_run.id} has a `run_config` of type `{kind}`, only `{wanted}` is supported")
    given = {name: value for name, value in stored.items() if name not in _ABOUT_ITSELF}
    parameters = inspect.signature(run_config_class).parameters
    if not any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
        given = {name: value for name, value in given.items() if name in parameters}
    return run_config_class(**given)
