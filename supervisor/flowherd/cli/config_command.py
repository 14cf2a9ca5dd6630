"""`flowherd config`: every value, and where it came from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowherd.cli.output import is_terminal, print_json, print_table, say, warn

if TYPE_CHECKING:
    from flowherd.config import LoadedSettings


def add_to(app: typer.Typer) -> None:
    """Add this family's commands."""
    app.command("config", epilog="Example:  flowherd config --json | jq '.[\"cloud.api\"].origin'")(config)


def config(as_json: Annotated[bool, typer.Option("--json", help="Print one object.")] = False) -> None:
    """Show every setting with its value and where that came from; secrets are masked.

    Stronger first: flags, FLOWHERD__SECTION__KEY, PREFECT__SECTION__KEY, config.toml in the home (FLOWHERD_HOME),
    ~/.prefect/config.toml, defaults.
    """
    from flowherd.config import load_settings

    loaded = load_settings()
    for warning in loaded.warnings:
        warn(warning)
    if as_json:
        print_json({name: {"value": loaded.masked(name), **_origin(loaded, name)} for name in loaded.origins})
        return
    rows = [(name, _shown(loaded.masked(name)), str(origin)) for name, origin in loaded.origins.items()]
    print_table(("SETTING", "VALUE", "FROM"), rows)
    if is_terminal():
        say(
            f"\nhome {loaded.paths.home}, own file {loaded.paths.config_file}"
            f"{'' if loaded.paths.config_file.exists() else ' (not there)'}"
        )


def _origin(loaded: LoadedSettings, name: str) -> dict[str, Any]:
    origin = loaded.origins[name]
    return {"source": origin.source.value, "origin": str(origin)}


def _shown(value: Any) -> str:
    if value is None or value == "":
        return "-"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
