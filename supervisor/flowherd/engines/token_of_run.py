"""Which token a run that is kept apart gets: its engine one for this run alone, and a run without an engine none."""

from __future__ import annotations

from flowherd.engines.base import AgentDefaults
from flowherd.run_token import make_run_token
from flowherd.values import FlowRun
from flowherd_runner.contract.isolation import NONE
from flowherd_runner.contract.spec import RunSpec

_OPEN_API = (
    "this run is isolated, but the server of its agent wants no token, so the run could have that start a command "
    "without isolation; `flowherd start --isolation private` isolates all runs of the agent and makes a token"
)


def with_own_token(spec: RunSpec, flow_run: FlowRun, defaults: AgentDefaults) -> RunSpec:
    """Return the spec without the agent's token, wherever a run that is kept apart would have it in a variable.

    Its engine gets a token for this run and this claim. A server of Prefect's takes none but the user's, so an engine
    keeps that there (docs/security.md).
    """
    access = defaults.access
    if not spec.isolation.wanted or access is None:
        return spec
    if not access.token:
        return _warned(spec)
    holding = {name for name, value in spec.env.items() if value == access.token}
    env = {name: value for name, value in spec.env.items() if name not in holding}
    if not spec.agent.has_engine:
        return spec._replace(env=env)
    if not access.takes_run_tokens:
        return spec
    own = make_run_token(access.token, flow_run.id, flow_run.version)
    return spec._replace(env={**spec.env, **dict.fromkeys(holding, own)})


def _warned(spec: RunSpec) -> RunSpec:
    """Return the spec with a warning if the run could have a command run without isolation, by the agent's own API."""
    if spec.isolation.network != "host" or spec.isolation.floor != NONE:
        return spec
    agent = spec.agent._replace(warnings=(*spec.agent.warnings, _OPEN_API))
    return spec._replace(agent=agent)
