"""`flowherd poke`: agents look for runs at once instead of at their next poll."""

from __future__ import annotations

import typer

from flowherd.cli import exit_codes
from flowherd.cli.failures import CommandError
from flowherd.cli.open_client import open_client
from flowherd.cli.options import ApiOption, JsonOption, RunningAgentOption, settings_from
from flowherd.cli.printing import print_json, print_line
from flowherd.errors import BackendUnavailable

_TIMEOUT_S = 10.0


def add_to(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("poke", epilog="Example:  flowherd poke --agent-address http://127.0.0.1:8080")(poke)


def poke(agent_address: RunningAgentOption = None, api: ApiOption = None, as_json: JsonOption = False) -> None:
    """Wake agents so that they look for runs now: all agents of a flowherd server, or one by its address.

    Exits 1 if no agent was woken.
    """
    if agent_address is not None:
        _poke_agent(agent_address)
        woken = 1
    else:
        client, _ = open_client(api)
        if not client.is_flowherd_server():
            raise CommandError(f"{client.address} is not a flowherd server and cannot wake agents; use --agent-address")
        woken = client.agents.wake()
    if as_json:
        print_json({"agents": woken})
    else:
        print_line(f"woke {woken} agent{'' if woken == 1 else 's'}")
    raise typer.Exit(exit_codes.OK if woken else exit_codes.FAILED)


def _poke_agent(address: str) -> None:
    import requests

    token = settings_from().settings.agent.api_token
    url = (address if "//" in address else f"http://{address}").rstrip("/") + "/api/poke"
    try:
        with requests.Session() as session:
            session.trust_env = False
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            answer = session.get(url, timeout=_TIMEOUT_S, headers=headers, allow_redirects=False)
    except requests.RequestException as error:
        raise BackendUnavailable(f"no answer from the agent at {url}: {error}") from error
    if answer.status_code == 401:
        raise CommandError(f"the agent at {url} needs a token: set FLOWHERD__AGENT__API_TOKEN", exit_codes.USAGE)
    if not answer.ok:
        raise CommandError(f"the agent at {url} answered HTTP {answer.status_code}")
