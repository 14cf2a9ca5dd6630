"""What the class of an agent chooses for one run: asks the overridable methods that `LocalAgent` calls for each run.

A subclass changes what it overrides and inherits the rest. So an override of `populate_env_vars` is compared with what
the base class returns: only what it has changed is given to the run, and what it has left out is removed from it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flowherd.agent.run_configs import LocalRun
from flowherd.engines.variables import Variables
from flowherd.values import FlowRun


@dataclass(frozen=True, kw_only=True)
class ClassChoices:
    """What the agent's class has chosen for one run."""

    #: Run config in place of the run's own; None if the class leaves it alone.
    run_config: Mapping[str, Any] | None = None
    #: Variables that win over all others; None removes one.
    variables: Variables = field(default_factory=dict)


def is_overridden(agent: object, method: str, base: type) -> bool:
    """Return whether the agent's method of this name is not the one that `base` defines."""
    return getattr(getattr(agent, method), "__func__", None) is not getattr(base, method)


def changed_run_config(own: Mapping[str, Any], chosen: object) -> dict[str, Any]:
    """Return the run's own config with what `chosen`, the answer of an overridden method, says otherwise.

    `chosen` is an object with attributes as Prefect's run configs have them, or None.
    """
    said = {} if chosen is None else {name: value for name, value in vars(chosen).items() if name[:1] != "_"}
    said.pop("labels", None)
    return {**own, **said, "type": LocalRun.__name__}


def asked_for_variables(
    override: Callable[..., Mapping[str, Any]],
    base: Callable[..., Mapping[str, str]],
    flow_run: FlowRun,
    config: object,
) -> dict[str, Any]:
    """Return what an overridden `populate_env_vars` has changed of what `base` returns: None for what it left out.

    A method that takes a run config, as those of Prefect 1.x do, is given one. Raises what the override raises, and
    TypeError if it returns no mapping.
    """
    parameters = inspect.signature(override).parameters.values()
    takes_config = any(one.name == "run_config" or one.kind is one.VAR_KEYWORD for one in parameters)
    more = {"run_config": config} if takes_config else {}
    returned = override(flow_run=flow_run, **more)
    if not isinstance(returned, Mapping):
        raise TypeError(f"populate_env_vars returned {type(returned).__name__}, not a mapping of variables")
    before = base(flow_run=flow_run, **more)
    left_out = dict.fromkeys(name for name in before if name not in returned)
    changed = {name: value for name, value in returned.items() if name not in before or before[name] != value}
    return {**left_out, **changed}
