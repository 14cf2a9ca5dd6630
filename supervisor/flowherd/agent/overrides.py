"""Methods of other agents that flowherd never calls, and what a subclass overrides instead.

A subclass that was written for another agent may override one of them. It would wait for ever for its call, so it is
warned when it is defined.
"""

from __future__ import annotations

from collections.abc import Iterator

_DEPLOY = "override deploy_flow, or deploy_and_update_flow_run"
_QUERY = "override query_flow_runs"
_CLAIM = "override update_state"
_FAILED = "override mark_failed"
_CONNECT = "override agent_connect"
_START = "override on_startup or setup"
_STOP = "override on_shutdown or cleanup"
_OWN = "flowherd does this itself"

#: What to do instead, by the name of the method: those of Prefect 0.13 to 1.4, and own ones that are for callers.
NEVER_CALLED = {
    "_deploy_flow_run": _DEPLOY,
    "_deploy_flow_run_completed_callback": "override on_flow_run_deploy_attempt",
    "_enter_work_polling_loop": "override agent_process, which is one poll",
    "_get_flow_run_metadata": _QUERY,
    "_get_logger": "set the level and handlers of self.logger in the constructor",
    "_get_ready_flow_runs": _QUERY,
    "_mark_flow_as_failed": _FAILED,
    "_mark_flow_as_submitted": _CLAIM,
    "_query_flow_runs": _QUERY,
    "_retrieve_agent_config": _CONNECT,
    "_safe_write_run_log": _FAILED + " or deploy_and_update_flow_run",
    "_send_heartbeat": "override heartbeat",
    "_setup_api_connection": _CONNECT,
    "_show_startup_display": _START,
    "_start_agent_api_server": _START,
    "_start_heartbeat_thread": "override heartbeat and set heartbeat_period",
    "_stop_agent_api_server": _STOP,
    "_stop_heartbeat_thread": _STOP,
    "_submit_deploy_flow_run_jobs": "override agent_process",
    "api_address": _OWN,
    "backend": "give the constructor a backend",
    "is_to_start_again": _OWN,
    "stop": "override on_shutdown, which is called whatever stops the agent",
}


def never_called(subclass: type) -> Iterator[tuple[str, str]]:
    """Yield the methods in the body of a class that flowherd never calls, with what to do instead.

    Not those that another base, which is none of flowherd's, defines: it may call them itself. None for own classes.
    """
    if _is_own(subclass):
        return
    for name in subclass.__dict__:
        advice = NEVER_CALLED.get(name)
        if advice is None:
            continue
        owners = [base for base in subclass.__mro__[1:] if name in base.__dict__]
        if all(map(_is_own, owners)):
            yield name, advice


def _is_own(cls: type) -> bool:
    return cls.__module__.partition(".")[0] == "flowherd"
