"""What a flow is that runs without an agent: as it is registered, as it was registered last, or as it is written."""

from __future__ import annotations

from pathlib import Path

from flowherd.cli import exit_codes
from flowherd.cli.failures import CommandError
from flowherd.cli.here.kept_definitions import Definition, kept_definition
from flowherd.cli.open_client import open_client
from flowherd.cli.options import settings_from
from flowherd.cli.printing import print_note
from flowherd.client.flow_document import python_storage
from flowherd.client.lookup import find_flow
from flowherd.config import LoadedSettings
from flowherd.errors import BackendUnavailable


def find_definition(name: str, project: str | None, api: str | None) -> tuple[Definition, LoadedSettings]:
    """Return the flow that `name` means, and the settings; it may refer to code, as for `register --python`.

    The server is asked first: a copy only says what was registered from here. Raises CommandError if there is no such
    flow; what the server's silence raises, if no copy was kept.
    """
    if name.endswith(".py") or ":" in name:
        here = {"working_dir": str(Path.cwd())}
        return Definition(name=name, storage=python_storage(name, Path.cwd()), run_config=here), settings_from(api=api)
    try:
        client, loaded = open_client(api)
        found = client.flows.definition(find_flow(client, name, project).id)
    except (BackendUnavailable, CommandError) as error:
        if isinstance(error, CommandError) and error.exit_code != exit_codes.UNREACHABLE:
            raise
        loaded = settings_from(api=api)
        kept = kept_definition(loaded.paths.home, name, project)
        if kept is None:
            raise
        print_note(f"no server answers, so this is {name} as it was last registered from this host")
        return kept, loaded
    return Definition(name=name, storage=found.storage, run_config=found.run_config, defaults=found.defaults), loaded
