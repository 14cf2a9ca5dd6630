"""The options that keep runs apart: of `flowherd start` for all runs, of `flowherd register` for those of a flow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from flowherd.cli import completion, exit_codes, parse_options
from flowherd.cli.failures import CommandError
from flowherd.cli.options import overrides

StartIsolationOption = Annotated[
    str | None,
    overrides(
        "runs.isolation.level",
        "--isolation",
        metavar="LEVEL",
        help="What keeps every run apart at least: none, private or sealed; a flow can ask for more (default: none)",
        autocompletion=completion.isolation_levels,
    ),
]
StartNetworkOption = Annotated[
    str | None,
    overrides(
        "runs.isolation.network",
        "--network",
        metavar="NETWORK",
        help="Network of every run: host, or none, which means private at least (default: host)",
        autocompletion=completion.networks,
    ),
]
IsolationOption = Annotated[
    str | None,
    typer.Option(
        "--isolation",
        metavar="LEVEL",
        help="What keeps its runs apart from the rest of the host: none, private or sealed (default: the agent's).",
        autocompletion=completion.isolation_levels,
    ),
]
NetworkOption = Annotated[
    str | None,
    typer.Option(
        "--network",
        metavar="NETWORK",
        help="host, or none, which means private at least.",
        autocompletion=completion.networks,
    ),
]
IfMissingOption = Annotated[
    str | None,
    typer.Option(
        "--if-missing",
        metavar="WHAT",
        help="If the host lacks something of that: refuse, or weaker, if the agent allows it.",
        autocompletion=completion.if_missing,
    ),
]
WriteOption = Annotated[
    list[str] | None,
    typer.Option("--write", metavar="PATH", help="What a sealed run may change beside its directory; repeatable."),
]
HideOption = Annotated[
    list[str] | None,
    typer.Option("--hide", metavar="PATH", help="What its runs do not see; repeatable."),
]


def chosen_isolation(
    level: str | None,
    network: str | None,
    if_missing: str | None,
    write: Sequence[str] | None,
    hide: Sequence[str] | None,
) -> dict[str, Any]:
    """Return the isolation of a run config, from the options of `register`. Raises CommandError."""
    from flowherd.isolation.levels import read_request

    given: dict[str, Any] = {
        "level": level,
        "network": network,
        "if_missing": if_missing,
        "write": [parse_options.host_path(path, "--write") for path in write or ()],
        "hide": [parse_options.host_path(path, "--hide") for path in hide or ()],
    }
    try:
        return read_request({name: value for name, value in given.items() if value}).as_json()
    except ValueError as error:
        raise CommandError(str(error), exit_codes.USAGE) from error
