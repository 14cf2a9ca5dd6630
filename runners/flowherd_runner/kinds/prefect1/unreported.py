"""Remembers why Prefect's engine could not set a state of the flow run: it logs that, and ends with exit code 0."""

import functools
import importlib
from typing import Any, Callable, Optional

#: The engine's steps that talk to the backend, and that end the run when it refuses or does not answer.
_STEPS = ("initialize_run", "call_runner_target_handlers")


class Unreported:
    """The last such error of this process; None if there was none, or the engine could set a state afterwards."""

    def __init__(self) -> None:
        self.error: Optional[BaseException] = None

    def watch(self) -> None:
        """Look at what the engine's steps raise from now on."""
        runner: Any = importlib.import_module("prefect.engine.cloud.flow_runner").CloudFlowRunner
        ended: Any = importlib.import_module("prefect.engine.runner").ENDRUN
        for name in _STEPS:
            setattr(runner, name, self._watched(getattr(runner, name), ended))

    def _watched(self, step: Callable[..., Any], ended: Any) -> Callable[..., Any]:
        @functools.wraps(step)
        def watched(*args: Any, **kwargs: Any) -> Any:
            try:
                result = step(*args, **kwargs)
            except ended as error:
                self.error = error.__cause__ or error.__context__
                raise
            self.error = None
            return result

        return watched
