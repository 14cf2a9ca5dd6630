"""Calls the hooks of a flow as Prefect's process worker does."""

import importlib
import inspect
from typing import Any, Iterable


def run(hooks: Iterable[Any], flow: Any, flow_run: Any, logger: Any) -> None:
    """Call each hook with the run's state; what one raises is logged, and the others are called all the same."""
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
    """Pass the arguments by name, as the worker does, or in order, as the engine does, if the hook has other names."""
    try:
        inspect.signature(hook).bind(**arguments)
    except (TypeError, ValueError):
        return hook(*arguments.values())
    return hook(**arguments)


async def _wait_for(done: Any) -> None:
    await done
