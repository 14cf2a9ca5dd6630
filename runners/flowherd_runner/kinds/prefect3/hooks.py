"""Hooks of a flow, called as Prefect's process worker calls them."""

import importlib
import inspect
from typing import Any, Iterable


def run(hooks: Iterable[Any], flow: Any, flow_run: Any, logger: Any) -> None:
    """Call each with the run's state; what one raises is logged, and the others have their turn too."""
    for hook in hooks:
        name = getattr(hook, "__name__", type(hook).__name__)
        try:
            logger.info("Running hook %r in response to entering state %r", name, flow_run.state.name)
            done = _call(hook, {"flow": flow, "flow_run": flow_run, "state": flow_run.state})
            if inspect.isawaitable(done):
                importlib.import_module("asyncio").run(_wait_for(done))
        except Exception:  # the user's code
            logger.exception("An error was encountered while running hook %r", name)
        else:
            logger.info("Hook %r finished running successfully", name)


def _call(hook: Any, arguments: Any) -> Any:
    """By name, as the worker does; a hook with other names for them gets them in order, as from the engine."""
    try:
        inspect.signature(hook).bind(**arguments)
    except (TypeError, ValueError):
        return hook(*arguments.values())
    return hook(**arguments)


async def _wait_for(done: Any) -> None:
    await done
