"""`flowherd doctor`: whether an agent with these settings has what it needs here, and what to do where it has not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from flowherd.cli import completion, exit_codes
from flowherd.cli.output import is_terminal, print_json, print_table, say

if TYPE_CHECKING:
    from flowherd.cli.doctor.finding import Finding
    from flowherd.config import LoadedSettings

_STYLES = {"ok": "green", "warn": "yellow", "bad": "bold red"}


def add_to(app: typer.Typer) -> None:
    """Add this family's commands."""
    app.command("doctor", epilog="Example:  flowherd doctor --json | jq '.checks[] | select(.grade != \"ok\")'")(doctor)


def doctor(
    name: Annotated[str | None, typer.Option("-n", "--name", help="The agent's name (default: the settings')")] = None,
    state_dir: Annotated[str | None, typer.Option(metavar="DIR", help="The agent's state directory.")] = None,
    api: Annotated[str | None, typer.Option("-a", "--api", metavar="URL", help="API address.")] = None,
    pool: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The work pool of a Prefect 3 server that the agent serves.",
            autocompletion=completion.pools,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print an object.")] = False,
) -> None:
    """Check all that an agent needs: API, token, clock, disk, limits, kernel, supervisor, fork server, leftovers.

    Exits 1 when something is bad; a warning is no failure.
    """
    from loguru import logger

    from flowherd.config import load_settings

    logger.remove()  # what the parts that are tried have to say is said by the findings
    given = {"cloud.agent.name": name, "agent.state_dir": state_dir, "cloud.api": api, "prefect3.pool": pool}
    flags = {
        "cloud.agent.name": "--name",
        "agent.state_dir": "--state-dir",
        "cloud.api": "--api",
        "prefect3.pool": "--pool",
    }
    loaded = load_settings(given, argument_names=flags)
    findings = list(_findings(loaded))
    well = all(finding.grade != "bad" for finding in findings)
    if as_json:
        print_json({"ok": well, "checks": [asdict(finding) for finding in findings]})
    else:
        _print(findings)
    raise typer.Exit(exit_codes.OK if well else exit_codes.FAILED)


def _findings(loaded: LoadedSettings) -> Iterator[Finding]:
    from flowherd.backends.registry import backend_name
    from flowherd.cli.doctor import check_added_backend, check_agent, check_backend, check_host, check_work_pool
    from flowherd.cli.doctor.finding import warn

    for warning in loaded.warnings:
        yield warn("settings", warning, "correct it; `flowherd config` shows all settings and where they come from")
    checks = {"graphql": check_backend.check_backend, "prefect3": check_work_pool.check_work_pool}
    yield from checks.get(backend_name(loaded.settings), check_added_backend.check_added_backend)(loaded)
    pid = check_agent.agent_pid(loaded)
    yield check_agent.check_directory(loaded)
    yield from check_agent.check_agent(loaded, pid)
    yield check_agent.check_spool(loaded)
    yield from check_agent.check_leftovers(loaded, pid)
    yield check_agent.check_supervisor(pid)
    yield from check_agent.check_fork_servers(loaded)
    yield from check_host.check_disk("disk", loaded.paths.state_dir)
    if not loaded.paths.state_dir.is_relative_to(loaded.paths.home):
        yield from check_host.check_disk("home's disk", loaded.paths.home)
    yield from check_host.check_limits(pid)
    yield from check_host.check_kernel()
    yield check_host.check_cgroup(pid)


def _print(findings: list[Finding]) -> None:
    rows = [(x.grade, x.check, x.detail + (f" -> {x.advice}" if x.advice else "")) for x in findings]
    print_table(("STATE", "CHECK", "FINDING"), rows, styles=[_STYLES[finding.grade] for finding in findings])
    if is_terminal():
        counts = Counter(finding.grade for finding in findings)
        say(f"\n{counts['ok']} ok, {counts['warn']} warnings, {counts['bad']} bad")
