"""Read blocks and variables from the server, for the placeholders of job templates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flowherd.backends import json_values
from flowherd.backends.prefect3 import job_template
from flowherd.backends.prefect3.transport import Prefect3Transport, segment
from flowherd.errors import BackendRefused


class BlocksAndVariables:
    """Reads each block and variable once; make a new one for each poll, because they may change."""

    def __init__(self, transport: Prefect3Transport) -> None:
        self._transport = transport
        self._read: dict[str, Any] = {}

    def by_prefix(self) -> Mapping[str, Callable[[str], Any]]:
        """Return the functions that look up the value of a placeholder, by the prefix of its name."""
        return {job_template.BLOCKS: self.block_value, job_template.VARIABLES: self.variable}

    def variable(self, name: str) -> Any:
        """Return the variable's value; an empty string if there is none, as in Prefect's own worker."""
        try:
            row = self._once(f"/variables/name/{segment(name)}")
        except BackendRefused as error:
            if error.code == "404":
                return ""
            raise
        return json_values.mapping(row)["value"]

    def block_value(self, path: str) -> Any:
        """Return the data of a block, TYPE.NAME, or a part of it, TYPE.NAME.KEY. Raises ValueError if there is none."""
        block_type, _, rest = path.partition(".")
        name, _, key = rest.partition(".")
        if not name:
            raise ValueError(f"a block is written as TYPE.NAME or TYPE.NAME.KEY, not as {path!r:.80}")
        data = self._block(block_type, name)
        if set(data) == {"value"} and not key.startswith("value"):
            data = data["value"]
        value = job_template.look_up_path(data, key) if key else data
        if value is job_template.UNSET:
            raise ValueError(f"the block {block_type}/{name} has no {key!r:.80}")
        return value

    def _block(self, block_type: str, name: str) -> Any:
        path = f"/block_types/slug/{segment(block_type)}/block_documents/name/{segment(name)}?include_secrets=true"
        try:
            return json_values.mapping(json_values.mapping(self._once(path))["data"])
        except BackendRefused as error:
            if error.code == "404":
                raise ValueError(f"there is no block {block_type}/{name}") from error
            raise

    def _once(self, path: str) -> Any:
        if path not in self._read:
            self._read[path] = self._transport.get(path)
        return self._read[path]
