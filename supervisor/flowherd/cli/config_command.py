"""`flowherd config`: every setting with its value and where the value came from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import typer

from flowherd.cli.options import JsonOption
from flowherd.cli.printing import is_terminal, print_json, print_line, print_table, print_warning

if TYPE_CHECKING:
    from flowherd.config import LoadedSettings


def add_to(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("config", epilog="Example:  flowherd config --json | jq '.[\"cloud.api\"].origin'")(config)


def config(as_json: JsonOption = False) -> None:
    """Show every setting with its value and where the value came from; secrets are masked.

    From strongest to weakest: options, FLOWHERD__SECTION__KEY, PREFECT__SECTION__KEY, config.toml in the home
    (FLOWHERD_HOME), ~/.prefect/config.toml, defaults.
    """
    from flowherd.config import load_settings

    loaded = load_settings()
    for warning in loaded.warnings:
        print_warning(warning)
    if as_json:
        print_json({name: {"value": loaded.masked(name), **_origin(loaded, name)} for name in loaded.origins})
        return
    rows = [(name, _shown(loaded.masked(name)), str(origin)) for name, origin in loaded.origins.items()]
    print_table(("SETTING", "VALUE", "FROM"), rows)
    if is_terminal():
        file = loaded.paths.config_file
        print_line("")
        print_line(f"home {loaded.paths.home}, own file {file}{'' if file.exists() else ' (does not exist)'}")


def _origin(loaded: LoadedSettings, name: str) -> dict[str, Any]:
    origin = loaded.origins[name]
    return {"source": origin.source.value, "origin": str(origin)}


def _shown(value: Any) -> str:
    if value is None or value == "":
        return "-"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
