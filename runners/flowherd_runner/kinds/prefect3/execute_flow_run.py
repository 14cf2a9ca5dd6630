"""Executes one flow run as `python -m prefect.engine` does, with what Prefect's worker does before and after that."""

import importlib
import os
import traceback
from typing import Any, Callable, List, Optional
from uuid import UUID

from flowherd_runner.kinds.command import become
from flowherd_runner.kinds.definition import NotStarted
from flowherd_runner.kinds.prefect3 import hooks, prefect_compat, run_settings, workspace
from flowherd_runner.kinds.prefect3.known_documents import Documents
from flowherd_runner.kinds.prefect3.pull_events import PullEvents
from flowherd_runner.kinds.prefect3.termination import Termination

_RUN_ID = "PREFECT__FLOW_RUN_ID"


def fetch(flow_run_id: UUID, documents: Documents) -> None:
    """Fetch the flow's code and enter its directory, without running it. Raises SystemExit when it cannot be had."""
    pull_events = PullEvents()
    try:
        with pull_events.gathering():
            workspace.prepare(documents.flow_run(flow_run_id), documents)
    except Exception:
        traceback.print_exc()
        raise SystemExit(1) from None
    finally:
        pull_events.finish()


def call_hooks(flow_run_id: UUID, documents: Documents) -> None:
    """Call the hooks of a run that has crashed or was cancelled, in a process of their own, as Prefect's worker does.

    Calls none if the run is in another state by now, or if its project would run them in another interpreter (uv).
    """
    flow_run = prefect_compat.sync_client().read_flow_run(flow_run_id)
    name = hooks.name_for(flow_run.state)
    if name is None:
        return
    pull_events = PullEvents()
    try:
        with pull_events.gathering():
            command = workspace.prepare(documents.flow_run(flow_run_id), documents)
        flow = None if command is not None else prefect_compat.load_flow(flow_run)
        hooks.run(getattr(flow, name, None) or (), flow, flow_run, prefect_compat.flow_run_logger(flow_run, flow))
    finally:
        pull_events.finish()


class Execution:
    """One flow run; `flow_run_id` is its id at the server.

    `loaded` is called with the names of the hooks that a killed process would leave to be called.
    """

    def __init__(
        self,
        flow_run_id: UUID,
        documents: Documents,
        termination: Termination,
        loaded: Callable[[List[str]], object],
    ) -> None:
        self._flow_run_id = flow_run_id
        self._documents = documents
        self._pull_events = PullEvents()
        self._termination = termination
        self._loaded = loaded
        self._flow_engine: Any = importlib.import_module("prefect.flow_engine")
        self._flow: Optional[Any] = None

    def execute(self) -> None:
        """Run the flow; its engine reports the result. Raises SystemExit with the exit code of the engine."""
        try:
            with prefect_compat.engine_signals(self._flow_run_id, self._termination.wanted):
                self._run()
        finally:
            self._pull_events.finish()
            if self._termination.intent == "cancel":
                self._run_cancellation_hooks()

    def _run(self) -> None:
        flow_run = self._documents.flow_run(self._flow_run_id)
        logger = self._flow_engine.flow_run_logger(flow_run=flow_run)
        self._prepare(flow_run)
        try:
            flow = self._flow = prefect_compat.load_flow(flow_run)
        except Exception:
            logger.error("Unexpected exception encountered when trying to load flow", exc_info=True)
            raise
        self._loaded(hooks.names_of(flow))
        with prefect_compat.run_metrics(flow_run, flow):
            prefect_compat.drive(flow, prefect_compat.run_flow(flow, flow_run, logger))

    def _prepare(self, flow_run: Any) -> None:
        before = run_settings.sources()
        try:
            with self._pull_events.gathering():
                command = workspace.prepare(flow_run, self._documents)
        except Exception:
            traceback.print_exc()
            raise
        if command is not None:
            self._pull_events.finish()
            become(command, dict(os.environ))
        if run_settings.sources() != before:
            run_settings.renew()

    def _run_cancellation_hooks(self) -> None:
        """Run the hooks, as the worker does once the code of a run has ended that is Cancelling at the server."""
        on_cancellation = getattr(self._flow, "on_cancellation_hooks", None)
        if not on_cancellation:
            return
        flow_run = prefect_compat.sync_client().read_flow_run(self._flow_run_id)
        if flow_run.state is None or not (flow_run.state.is_cancelling() or flow_run.state.is_cancelled()):
            return
        hooks.run(on_cancellation, self._flow, flow_run, self._flow_engine.flow_run_logger(flow_run, self._flow))


def flow_run_id() -> UUID:
    """Return the flow run id of the environment. Raises NotStarted when there is none."""
    value = os.environ.get(_RUN_ID, "")
    try:
        return UUID(value)
    except ValueError:
        raise NotStarted("{} is not the id of a flow run: {!r}".format(_RUN_ID, value)) from None
