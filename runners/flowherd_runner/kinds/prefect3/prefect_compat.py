"""Private names of Prefect that a run uses: where each version has them, and substitutes for versions without them.

Tested with versions from 3.0 to 3.9 (docs/prefect3.md lists them). For a version that lacks something without a
substitute, `check` raises Unknown: for the engine, for a command and for a uv project alike.
"""

import contextlib
import importlib
import inspect
from typing import Any, Callable, ContextManager, Dict, Iterable, Iterator, List, Tuple

#: Modules in which `RunMetrics` has been; there is none before 3.7.
_METRICS = ("prefect.telemetry._metrics", "prefect._internal.metrics")
#: Names that every version from 3.0 on has, and that have no substitute.
_NEEDED = {
    "prefect.flow_engine": ("flow_run_logger", "run_flow", "load_flow_and_flow_run"),
    "prefect.exceptions": ("Abort", "Pause", "TerminationSignal"),
    "prefect.context": ("root_settings_context", "GLOBAL_SETTINGS_CONTEXT"),
    "prefect.settings": ("get_current_settings",),
    "prefect.client.orchestration": ("get_client",),
    "prefect.logging.handlers": ("APILogHandler", "APILogWorker", "PrefectConsoleHandler"),
    "prefect.logging.configuration": ("PROCESS_LOGGING_CONFIG", "load_logging_config", "setup_logging"),
}
#: Functions that fetch a flow's code, in the versions that have the first of these modules (from 3.8 on), with the
#: arguments that they are called with here: how many in order, and which by name.
_FETCHING: Dict[str, Dict[str, Tuple[int, Tuple[str, ...]]]] = {
    "prefect.runner._workspace_resolver": {"prepare_workspace": (4, ())},
    "prefect.runner._workspace_starter": {"workspace_environment": (1, ())},
    "prefect.runner._workspace_supervisor": {
        "_runner_owns_environment_key": (1, ()),
        "_restore_runner_environment": (2, ()),
        "_workspace_command": (2, ("environment",)),
    },
    "prefect.utilities.processutils": {"command_from_string": (1, ())},
}


class Unknown(Exception):
    """This Prefect version lacks something a forked run needs."""


def check() -> None:
    """Raise Unknown if a name that has no substitute is missing, or a function does not take what it is given here."""
    missing: List[str] = []
    for module, names in _NEEDED.items():
        found = module_of(module)
        missing += ["{}.{}".format(module, name) for name in names if not hasattr(found, name)]
    if can_fetch():
        for module, functions in _FETCHING.items():
            found = module_of(module)
            missing += [
                "{}.{} as it is known here".format(module, name)
                for name, arguments in functions.items()
                if not _takes(getattr(found, name, None), *arguments)
            ]
    if missing:
        version = getattr(module_of("prefect"), "__version__", "?")
        raise Unknown("Prefect {} has no {}".format(version, ", ".join(missing)))


def can_fetch() -> bool:
    """Whether this version prepares a directory with the flow's code before the engine, as 3.8 and later do."""
    return module_of(next(iter(_FETCHING))) is not None


def _takes(function: Any, count: int, names: Iterable[str]) -> bool:
    try:
        inspect.signature(function).bind(*[None] * count, **dict.fromkeys(names))
    except (TypeError, ValueError):
        return False
    return True


def module_of(name: str) -> Any:
    """Return the module; None when this Prefect has none of that name."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return None


def sync_client() -> Any:
    """Return a new synchronous client of the API."""
    return importlib.import_module("prefect.client.orchestration").get_client(sync_client=True)


def control_listener() -> Any:
    """Return the module that holds the intent of a termination; None before 3.6, when each counts as a crash."""
    return module_of("prefect._internal.control_listener")


def load_flow(flow_run: Any) -> Any:
    """Return the flow, loaded from where the flow run's deployment has it."""
    engine: Any = importlib.import_module("prefect.flow_engine")
    if hasattr(engine, "load_flow"):
        return engine.load_flow(flow_run)
    return engine.load_flow_and_flow_run(flow_run.id)[1]  # 3.0, which requests the flow run again


def flow_run_logger(flow_run: Any, flow: Any) -> Any:
    """Return the logger of a flow run."""
    return importlib.import_module("prefect.flow_engine").flow_run_logger(flow_run, flow)


def run_flow(flow: Any, flow_run: Any, logger: Any) -> Any:
    """Return what Prefect's engine makes of it, for `drive`."""
    engine: Any = importlib.import_module("prefect.flow_engine")
    known = inspect.signature(engine.run_flow).parameters
    more = {"error_logger": logger} if "error_logger" in known else {}
    return engine.run_flow(flow, flow_run=flow_run, **more)


def drive(flow: Any, result: Any) -> None:
    """Execute what `run_flow` has only prepared: a coroutine, or a generator."""
    own = getattr(importlib.import_module("prefect.engine"), "_drive_run_flow_result", None)
    if own is not None:
        own(flow, result)
    elif inspect.isasyncgen(result):
        importlib.import_module("asyncio").run(_exhaust(result))
    elif inspect.iscoroutine(result):
        importlib.import_module("asyncio").run(result)
    elif inspect.isgenerator(result):
        for _ in result:
            pass


async def _exhaust(generator: Any) -> None:
    async for _ in generator:
        pass


def run_metrics(flow_run: Any, flow: Any) -> ContextManager[Any]:
    """Return the context of Prefect's metrics of a run, if this version has one."""
    for name in _METRICS:
        made = getattr(module_of(name), "RunMetrics", None)
        if made is not None:
            return made(flow_run, flow)  # type: ignore[no-any-return]
    return contextlib.nullcontext()


def renew_settings_context() -> None:
    """Make the settings that are in force outside of any other context from the present environment."""
    context: Any = importlib.import_module("prefect.context")
    if hasattr(context, "refresh_global_settings_context"):
        context.refresh_global_settings_context()
    else:
        context.GLOBAL_SETTINGS_CONTEXT = context.root_settings_context()


def divert_api_logs(take: Callable[[Dict[str, Any], Callable[[Dict[str, Any]], None]], None]) -> None:
    """Pass each record for the API to `take`, together with a function that would send it."""
    handlers: Any = importlib.import_module("prefect.logging.handlers")
    sender = handlers.APILogWorker.instance

    def divert(log: Dict[str, Any]) -> None:
        take(log, lambda one: sender().send(one))

    if hasattr(handlers, "set_api_log_sink"):
        handlers.set_api_log_sink(divert)
    else:
        handlers.APILogWorker.instance = staticmethod(lambda *args: _Sender(divert))


class _Sender:
    """Takes the place of the thread that sends records, which is not started."""

    def __init__(self, send: Callable[[Dict[str, Any]], None]) -> None:
        self.send = send


@contextlib.contextmanager
def engine_signals(flow_run_id: Any, wanted: Callable[[], bool]) -> Iterator[None]:
    """Turn what an engine raises into the exit code of its process.

    `wanted` returns whether flowherd has asked for the termination.
    """
    if control_listener() is not None:
        with importlib.import_module("prefect.engine").handle_engine_signals(flow_run_id):
            yield
        return
    errors: Any = importlib.import_module("prefect.exceptions")
    logger = importlib.import_module("prefect.logging.loggers").get_logger("engine")
    try:
        yield
    except (errors.Abort, errors.Pause) as error:
        logger.info("Execution of flow run '%s' ends without an end of the flow: %s", flow_run_id, error)
        raise SystemExit(0) from None
    except errors.TerminationSignal:
        if wanted():
            logger.info("Execution of flow run '%s' was terminated.", flow_run_id)
            raise SystemExit(0) from None
        raise
    except Exception:
        logger.exception("Execution of flow run '%s' exited with unexpected exception", flow_run_id)
        raise SystemExit(1)  # noqa: B904 - the context shows the reason


def keep_wanted_ends_quiet(wanted: Callable[[], bool]) -> None:
    """Keep the engine from reporting a crash for a termination that flowherd has asked for, and reports itself.

    From 3.8 on, an engine recognises that by the intent.
    """
    engine: Any = importlib.import_module("prefect.flow_engine")
    if hasattr(engine, "_SUPERVISOR_OWNED_INTENTS"):
        return
    for name in ("FlowRunEngine", "AsyncFlowRunEngine"):
        if hasattr(engine, name):
            _silence(getattr(engine, name), wanted)


def _silence(engine_class: Any, wanted: Callable[[], bool]) -> None:
    crash = engine_class.handle_crash
    if inspect.iscoroutinefunction(crash):

        async def report_later(self: Any, exc: BaseException) -> None:
            if not wanted():
                await crash(self, exc)

        engine_class.handle_crash = report_later
    else:

        def report(self: Any, exc: BaseException) -> None:
            if not wanted():
                crash(self, exc)

        engine_class.handle_crash = report
