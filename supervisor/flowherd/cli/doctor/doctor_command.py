"""`flowherd doctor`: whether an agent with these settings has what it needs on this host, and what to do if not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowherd.cli import exit_codes
from flowherd.cli.options import (
    AgentApiOption,
    JsonOption,
    NameOption,
    PoolOption,
    ProgramOption,
    StateDirOption,
    SupervisorConfOption,
    SupervisorUrlOption,
    settings_from,
)
from flowherd.cli.printing import is_terminal, print_json, print_line, print_table

if TYPE_CHECKING:
    from flowherd.cli.doctor.finding import Finding
    from flowherd.config import LoadedSettings

_STYLES = {"ok": "green", "warn": "yellow", "bad": "bold red"}


def add_to(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("doctor", epilog="Example:  flowherd doctor --json | jq '.checks[] | select(.grade != \"ok\")'")(doctor)


def doctor(
    name: NameOption = None,
    state_dir: StateDirOption = None,
    api: AgentApiOption = None,
    pool: PoolOption = None,
    program: ProgramOption = "flowherd",
    supervisor_url: SupervisorUrlOption = None,
    supervisor_conf: SupervisorConfOption = None,
    show_all: Annotated[bool, typer.Option("--all", help="Show every finding, also those that are well.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Check all that an agent needs: API, token, clock, disk, limits, kernel, supervisor, fork server, leftovers.

    Exits 1 if something is bad; a warning does not count as bad. A terminal shows what is to be done, and of the rest
    only the names; in a pipe nothing is cut.
    """
    from loguru import logger

    logger.remove()  # the findings report what the parts under test would log
    loaded = settings_from(name=name, state_dir=state_dir, api=api, pool=pool)
    findings = list(_findings(loaded, program, supervisor_url, supervisor_conf))
    good = all(finding.grade != "bad" for finding in findings)
    if as_json:
        print_json({"ok": good, "checks": [asdict(finding) for finding in findings]})
    elif is_terminal() and not show_all:
        _print_short(findings)
    else:
        _print(findings)
    raise typer.Exit(exit_codes.OK if good else exit_codes.FAILED)


def _findings(loaded: LoadedSettings, *supervised: Any) -> Iterator[Finding]:
    from flowherd.cli.doctor import (
        check_access,
        check_added_backend,
        check_agent,
        check_backend,
        check_cgroup,
        check_fork_servers,
        check_host,
        check_isolation,
        check_notifications,
        check_supervisord,
        check_work_pool,
    )
    from flowherd.cli.doctor.finding import warn

    for warning in loaded.warnings:
        yield warn("settings", warning, "correct it; `flowherd config` shows all settings and where they come from")
    checks = {"graphql": check_backend.check_backend, "prefect3": check_work_pool.check_work_pool}
    yield from checks.get(loaded.settings.backend_name, check_added_backend.check_added_backend)(loaded)
    yield from check_access.check_access(loaded)
    pid = check_agent.agent_pid(loaded)
    yield check_agent.check_directory(loaded)
    yield from check_agent.check_agent(loaded, pid)
    yield check_agent.check_spool(loaded)
    yield from check_agent.check_leftovers(loaded, pid)
    yield check_agent.check_survivors(loaded)
    yield check_agent.check_remains(loaded)
    yield check_agent.check_supervisor(pid, *supervised)
    yield from check_supervisord.check_supervisord(loaded, *supervised)
    yield from check_fork_servers.check_fork_servers(loaded)
    yield from check_host.check_disk("disk", loaded.paths.state_dir)
    if not loaded.paths.state_dir.is_relative_to(loaded.paths.home):
        yield from check_host.check_disk("home's disk", loaded.paths.home)
    yield from check_host.check_limits(pid)
    yield from check_host.check_kernel()
    yield check_host.check_inspection()
    yield check_cgroup.check_cgroup(pid)
    yield from check_isolation.check_isolation(loaded)
    yield from check_notifications.check_notifications(loaded)


def _print_short(findings: list[Finding]) -> None:
    from flowherd.cli.doctor.short_view import short_view
    from flowherd.cli.tables.fold import Screen

    screen = Screen()
    short_view(findings, screen)
    print("\n".join(screen.lines()), flush=True)


def _print(findings: list[Finding]) -> None:
    rows = [(x.grade, x.check, x.detail + (f" -> {x.advice}" if x.advice else "")) for x in findings]
    print_table(("STATE", "CHECK", "FINDING"), rows, styles=[_STYLES[finding.grade] for finding in findings])
    if is_terminal():
        counts = Counter(finding.grade for finding in findings)
        print_line("")
        print_line(f"{counts['ok']} ok, {counts['warn']} warnings, {counts['bad']} bad")
