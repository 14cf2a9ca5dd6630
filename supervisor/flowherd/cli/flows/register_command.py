"""`flowherd register`: a flow becomes known to the backend."""

from __future__ import annotations

import socket
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowherd.cli import completion, exit_codes, parse_options
from flowherd.cli.failures import CommandError
from flowherd.cli.flows.rule_options import (
    CatchUpOption,
    ChosenRules,
    MaxRunningOption,
    NeverStuckOption,
    OverlapOption,
    RetriesOption,
    RetryBackoffOption,
    RetryDelayOption,
    RetryOnOption,
    chosen_rules,
)
from flowherd.cli.flows.weight_options import (
    CpuOption,
    IoOption,
    NiceOption,
    OomScoreAdjOption,
    chosen_weights,
)
from flowherd.cli.isolation_options import (
    HideOption,
    IfMissingOption,
    IsolationOption,
    NetworkOption,
    WriteOption,
    chosen_isolation,
)
from flowherd.cli.open_client import open_public_client
from flowherd.cli.options import ApiOption, JsonOption
from flowherd.cli.printing import print_json, print_line, print_note, print_warning
from flowherd.cli.zone_option import ZoneOption
from flowherd.flow_rules import DEFAULT_RULES

if TYPE_CHECKING:
    from flowherd.client.flow_schedule import ChosenSchedule
    from flowherd.client.flows import RegisteredFlow
    from flowherd.client.user_client import UserClient

#: Number of next times of a schedule that are shown.
_SHOWN_TIMES = 3
_EXAMPLES = """
Examples:

  flowherd register hello --python flows.py:hello -p name=world

  flowherd register digest --python digest.py --log-level DEBUG

  flowherd register nightly --cron '0 3 * * *' --timezone Europe/Berlin --command -- rsync -a /srv/data/ /backup/

  flowherd register import --cron '*/5 * * * *' --overlap skip --retries 3 --retry-delay 30s --command -- ./import

  flowherd register model --python train:main --interpreter ~/venv/bin/python --memory 4G --timeout 2h

  flowherd register convert --isolation sealed --write /srv/out --network none --command -- ./convert
"""


def add_to(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("register", epilog=_EXAMPLES)(register)


def register(
    name: Annotated[str, typer.Argument(help="The flow's name.")],
    argv: Annotated[
        list[str] | None, typer.Argument(metavar="[-- ARGV...]", help="With --command: the program and its arguments.")
    ] = None,
    python: Annotated[
        str | None,
        typer.Option(
            metavar="REF",
            help="Run a Python callable, module:function or path/file.py:function, or a file, path/file.py.",
        ),
    ] = None,
    command: Annotated[bool, typer.Option("--command", help="Run a command, given after --, without a shell.")] = False,
    label: Annotated[
        list[str] | None,
        typer.Option("-l", "--label", metavar="LABEL", help="Only agents with this label run it; repeatable."),
    ] = None,
    any_host: Annotated[bool, typer.Option("--any-host", help="Do not add this host's name to the labels.")] = False,
    env: Annotated[
        list[str] | None,
        typer.Option("-e", "--env", metavar="K=V", help="Variable for its runs; repeatable."),
    ] = None,
    env_file: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="File of NAME=VALUE lines, read on the host when a run starts; repeatable."),
    ] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=SOURCE",
            help="Secret variable, read on the host when a run starts: NAME=file:PATH, or NAME=env:VAR of the agent.",
        ),
    ] = None,
    working_dir: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="Directory in which its runs start (default: this one; for a module, a new one)"
        ),
    ] = None,
    interpreter: Annotated[
        str | None, typer.Option(metavar="PYTHON", help="Python that runs the flow (default: the agent's)")
    ] = None,
    preload: Annotated[
        list[str] | None,
        typer.Option(metavar="MODULE", help="Import this once, in the fork server; repeatable."),
    ] = None,
    memory: Annotated[str | None, typer.Option(metavar="SIZE", help="Memory of the whole process tree: 200M.")] = None,
    processes: Annotated[int | None, typer.Option(min=1, metavar="N", help="Number of processes.")] = None,
    timeout: Annotated[str | None, typer.Option(metavar="TIME", help="Wall time of a run: 10m.")] = None,
    open_files: Annotated[int | None, typer.Option(min=1, metavar="N", help="Open files of each process.")] = None,
    cpu_time: Annotated[str | None, typer.Option(metavar="TIME", help="CPU time of each process: 90s.")] = None,
    grace: Annotated[
        str | None, typer.Option(metavar="TIME", help="Time between asking a run to end and killing it.")
    ] = None,
    cpu: CpuOption = None,
    nice: NiceOption = None,
    io: IoOption = None,
    oom_score_adj: OomScoreAdjOption = None,
    user: Annotated[str | None, typer.Option(metavar="NAME", help="Run as this user; the agent must be root.")] = None,
    isolation: IsolationOption = None,
    network: NetworkOption = None,
    if_missing: IfMissingOption = None,
    write: WriteOption = None,
    hide: HideOption = None,
    log_level: Annotated[
        str | None,
        typer.Option(metavar="LEVEL", help="Level of the root logger when Python code starts: DEBUG, INFO, WARNING."),
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option("-p", "--parameter", metavar="K=V", help="Default of a parameter; V may be JSON; repeatable."),
    ] = None,
    cron: Annotated[
        str | None, typer.Option(metavar="EXPR", help="Create runs by this cron expression: '30 2 * * *', @daily.")
    ] = None,
    interval: Annotated[str | None, typer.Option(metavar="TIME", help="Create runs at this interval: 15m.")] = None,
    zone: ZoneOption = None,
    until: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Last day or time of the schedule, in its time zone: 2030-01-31."),
    ] = None,
    overlap: OverlapOption = None,
    max_running: MaxRunningOption = None,
    catch_up: CatchUpOption = None,
    retries: RetriesOption = None,
    retry_delay: RetryDelayOption = None,
    retry_backoff: RetryBackoffOption = None,
    retry_on: RetryOnOption = None,
    never_stuck: NeverStuckOption = False,
    project: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Project of the flow; created if missing.", autocompletion=completion.projects
        ),
    ] = "default",
    check: Annotated[
        bool,
        typer.Option("--check/--no-check", help="Check first whether its runs could be started on this host."),
    ] = True,
    api: ApiOption = None,
    as_json: JsonOption = False,
) -> None:
    """Register a flow: a Python callable, or a command. Registering it again creates a new version.

    A flow that is to run on this host is checked first: its program, user and directory exist, its module can be
    imported by its interpreter, its function exists and takes the parameters. A module is imported for that.
    """
    from flowherd.cli.flows.check_document import check_document
    from flowherd.cli.flows.schedule_options import chosen_schedule
    from flowherd.cli.here.kept_definitions import keep_definition
    from flowherd.client.flow_document import HowToRun, flow_document, is_file_reference, python_storage

    if not name.strip():
        raise CommandError("the name of a flow must not be empty", exit_codes.USAGE)
    now = datetime.now(timezone.utc)
    rules = chosen_rules(overlap, max_running, catch_up, retries, retry_delay, retry_backoff, retry_on, never_stuck)
    schedule = chosen_schedule(cron, interval, zone, until, now)
    parameters = parse_options.parameters(parameter)
    ref = None if command else _checked_ref(python, argv)
    storage = _command_storage(argv, python) if ref is None else python_storage(ref, Path.cwd(), check=check)
    here = command or is_file_reference(storage)
    how = HowToRun(
        labels=_labels(label, any_host),
        env=parse_options.pairs(env, "-e"),
        env_files=[parse_options.host_path(path, "--env-file") for path in env_file or ()],
        secrets=parse_options.secret_sources(secret),
        working_dir=_working_dir(working_dir, here=here),
        interpreter=_interpreter(interpreter),
        preload=preload or (),
        limits=_limits(memory, processes, timeout, open_files, cpu_time),
        weights=chosen_weights(cpu, nice, io, oom_score_adj),
        grace_s=parse_options.duration_s(grace, "--grace") if grace is not None else None,
        user=user,
        isolation=chosen_isolation(isolation, network, if_missing, write, hide),
        log_level=_log_level(log_level, command),
    )
    client = open_public_client(api)
    loaded = client.loaded
    rules_document = rules.document(client.connection)
    times = None if schedule is None else _schedule_document(schedule, parameters, client.connection)
    document = flow_document(name, storage, how, parameters, times) | rules_document
    if check:
        check_document(document, loaded)
    flow = client.register_document(document, project=project)
    keep_definition(loaded.paths.home, project, document)
    _print_flow(flow, document["run_config"]["labels"], schedule, rules, now, as_json)


def _checked_ref(python: str | None, argv: list[str] | None) -> str:
    if python is None:
        raise CommandError("nothing to run: give --python REF, or --command -- ARGV...", exit_codes.USAGE)
    if argv:
        raise CommandError(f"unexpected {argv[0]!r}: only --command takes arguments after --", exit_codes.USAGE)
    return python


def _command_storage(argv: list[str] | None, python: str | None) -> dict[str, Any]:
    from flowherd.client.flow_document import command_storage

    if python is not None:
        raise CommandError("--python and --command exclude each other", exit_codes.USAGE)
    if not argv:
        raise CommandError("--command needs the command after --: --command -- echo hello", exit_codes.USAGE)
    return command_storage(argv)


def _labels(given: list[str] | None, any_host: bool) -> list[str]:
    # The code is on this host, so only an agent on this host can run it; agents have their host's name as a label.
    return [*(given or ()), *([] if any_host else [socket.gethostname()])]


def _working_dir(given: str | None, *, here: bool) -> str | None:
    if given is None:
        return str(Path.cwd()) if here else None
    return str(Path(given).expanduser().absolute())


def _interpreter(given: str | None) -> str | None:
    import shutil

    if given is None:
        return None
    # Not resolved: the python of a virtual environment is a link to one outside the environment.
    found = shutil.which(str(Path(given).expanduser().absolute()) if "/" in given else given)
    if found is None:
        raise CommandError(f"--interpreter: there is no program {given}", exit_codes.NOT_FOUND)
    return str(Path(found).absolute())


def _log_level(given: str | None, command: bool) -> str | None:
    from flowherd.engines.run_config import LOG_LEVELS

    if given is None:
        return None
    if command:
        raise CommandError("--log-level is for Python code, not for a command", exit_codes.USAGE)
    if given.upper() not in LOG_LEVELS:
        raise CommandError(f"--log-level {given!r} is none of {', '.join(LOG_LEVELS)}", exit_codes.USAGE)
    return given.upper()


def _limits(
    memory: str | None, processes: int | None, timeout: str | None, open_files: int | None, cpu_time: str | None
) -> dict[str, float | int]:
    given: dict[str, float | int | None] = {
        "memory_bytes": parse_options.size_bytes(memory, "--memory") if memory is not None else None,
        "processes": processes,
        "run_time_s": parse_options.duration_s(timeout, "--timeout") if timeout is not None else None,
        "open_files": open_files,
        # setrlimit(2) counts whole seconds, and 0 would kill the run at its start.
        "cpu_time_s": max(1, round(parse_options.duration_s(cpu_time, "--cpu-time"))) if cpu_time is not None else None,
    }
    return {key: value for key, value in given.items() if value is not None}


def _schedule_document(schedule: ChosenSchedule, parameters: dict[str, Any], client: UserClient) -> dict[str, Any]:
    from flowherd.cli.flows.schedule_options import NO_ZONE

    own_clocks = client.follows_own_clocks()
    if schedule.cron is not None and schedule.zone_is_guess:
        print_warning(NO_ZONE)
    if schedule.cron is not None and not own_clocks:
        print_note(f"{client.address} follows Prefect's rules when the clocks change, not those of flowherd")
    return schedule.document(parameters, own_clocks=own_clocks)


def _print_flow(
    flow: RegisteredFlow,
    labels: list[str],
    schedule: ChosenSchedule | None,
    rules: ChosenRules,
    now: datetime,
    as_json: bool,
) -> None:
    times = [] if schedule is None else schedule.next_times(now, _SHOWN_TIMES)
    if as_json:
        fields = {"id": flow.id, "name": flow.name, "version": flow.version, "project": flow.project, "labels": labels}
        fields["rules"] = rules.rules.as_json()
        print_json(fields if schedule is None else {**fields, "schedule": {**schedule.fields(), "next": times}})
        return
    print_line(f"registered {flow.name} in project {flow.project}, version {flow.version}")
    print_line(f"  id      {flow.id}")
    print_line(f"  labels  {', '.join(labels) or '(none: only agents without labels run the flow)'}")
    if schedule is not None:
        print_line(f"  runs    {schedule.in_words()}")
        print_line(f"  next    {', '.join(map(schedule.written, times))}")
        if schedule.until is not None:
            print_line(f"  until   {schedule.written(schedule.until)}")
    if words := rules.rules.in_words(DEFAULT_RULES):
        print_line(f"  rules   {'; '.join(words)}")
