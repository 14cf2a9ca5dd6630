"""Blocks and variables that the server holds, for the placeholders of job templates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flowherd.backends import json_values
from flowherd.backends.prefect3 import templating
from flowherd.backends.prefect3.transport import Prefect3Transport, segment
from flowherd.errors import BackendRefused


class HeldValues:
    """Reads each block and each variable once; made anew for each use, for they may change."""

    def __init__(self, transport: Prefect3Transport) -> None:
        self._transport = transport
        self._read: dict[str, Any] = {}

    def by_prefix(self) -> Mapping[str, Callable[[str], Any]]:
        """What finds the value of a placeholder, by the prefix of its name."""
        return {templating.BLOCKS: self.block_value, templating.VARIABLES: self.variable}

    def variable(self, name: str) -> Any:
        """The variable's value; an empty text where there is none, as Prefect's worker has it."""
        try:
            row = self._once(f"/variables/name/{segment(name)}")
        except BackendRefused as error:
            if error.code == "404":
                return ""
            raise
        return json_values.mapping(row)["value"]

    def block_value(self, path: str) -> Any:
        """The data, or a part of it, that TYPE.NAME or TYPE.NAME.KEY names. Raises ValueError when there is none."""
        block_type, _, rest = path.partition(".")
        name, _, key = rest.partition(".")
        if not name:
            raise ValueError(f"a block is named by its type and its name, not by {path!r:.80}")
        data = self._block(block_type, name)
        if set(data) == {"value"} and not key.startswith("value"):
            data = data["value"]
        value = templating.looked_up(data, key) if key else data
        if value is templating.UNSET:
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
