"""Switches the traces of an agent on, if it has an endpoint for them."""

from __future__ import annotations

from flowherd.agent.measures import Measures
from flowherd.errors import ConfigurationError


def send_traces(endpoint: str, agent_name: str, measures: Measures) -> None:
    """Have a trace of each run that ends sent to `endpoint`; empty for none.

    Raises ConfigurationError without the libraries of the extra flowherd[otel].
    """
    if not endpoint:
        return
    try:
        from flowherd.agent.run_traces import RunTraces
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"traces.endpoint is set, but {error.name} is not installed; pip install 'flowherd[otel]', or leave "
            "traces.endpoint empty"
        ) from error
    traces = RunTraces(endpoint, agent_name)
    measures.on_reported, measures.on_close = traces.reported, traces.close
