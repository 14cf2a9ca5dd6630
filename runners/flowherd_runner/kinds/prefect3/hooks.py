"""Calls the hooks of a flow as Prefect's process worker does."""

import importlib
import inspect
from typing import Any, Iterable, List, Optional

#: Attributes of a flow with the hooks that its process cannot call once it was killed. The agent knows these names too.
_OF_A_KILLED_RUN = ("on_crashed_hooks", "on_cancellation_hooks")


def names_of(flow: Any) -> List[str]:
    """Return the attributes of the flow that have hooks for a killed run."""
    return [name for name in _OF_A_KILLED_RUN if getattr(flow, name, None)]


def name_for(state: Any) -> Optional[str]:
    """Return the attribute with the hooks for a run in this state; None if there are none for it."""
    if state is None:
        return None
    if state.is_crashed():
        return "on_crashed_hooks"
    return "on_cancellation_hooks" if state.is_cancelling() or state.is_cancelled() else None


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
