"""Where the value of a setting came from, so that a person can find and change it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path


class Source(str, Enum):
    """The kinds of sources, the strongest first."""

    ARGUMENT = "argument"
    ENVIRONMENT = "environment"
    FILE = "file"
    PREFECT_FILE = "prefect_file"
    DEFAULT = "default"


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where the value of one setting came from."""

    source: Source
    #: The option or the environment variable; empty for files and defaults.
    name: str = ""
    #: The file that the value was read from.
    path: Path | None = None
    #: The dotted key in the file, if it is not the setting's name.
    key: str = ""

    def __str__(self) -> str:
        if self.source is Source.DEFAULT:
            return "default"
        if self.source is Source.ARGUMENT:
            return self.name or "argument"
        if self.source is Source.ENVIRONMENT:
            return f"variable {self.name}" + (f" (file {self.path})" if self.path else "")
        return f"file {self.path}"
