"""The configuration files of a running supervisord, as far as flowherd looks at them.

Sources: http://supervisord.org/configuration.html and supervisor/options.py (process_config_file, read_include_config).
"""

from __future__ import annotations

import configparser
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flowherd.supervisord.plugin_import import command_line, pid_of
from flowherd.supervisord.rpc import CONFIGURATIONS, Access


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """The sections of the main file and of those that it includes."""

    main: Path
    #: The values of each section, by key, and the file that it is in.
    sections: Mapping[str, Mapping[str, str]]
    files: Mapping[str, Path]

    def sections_with(self, text: str) -> dict[str, Path]:
        """Return the sections one of whose values begins with `text`, and their files."""
        return {
            section: self.files[section]
            for section, values in self.sections.items()
            if any(value.startswith(text) for value in values.values())
        }


def configuration_of(access: Access) -> Configuration | None:
    """Return the present files of the supervisord there; None if they are not found or cannot be read.

    Raises SupervisordError if it does not answer.
    """
    pid = pid_of(access)
    main = _main_file(pid) if pid is not None else None
    return None if main is None else read_configuration(main)


def read_configuration(main: Path) -> Configuration | None:
    """Read a main file and what it includes; None if it cannot be read. Included files that cannot be are left out."""
    parser = _parsed(main)
    if parser is None:
        return None
    sections = {name: dict(parser.items(name)) for name in parser.sections()}
    files = dict.fromkeys(sections, main)
    here = str(main.parent)
    for pattern in parser.get("include", "files", fallback="").replace("%(here)s", here).split():
        for path in sorted(Path("/").glob(str(main.parent / pattern).lstrip("/"))):
            included = _parsed(path)
            if included is not None:
                sections |= {name: dict(included.items(name)) for name in included.sections()}
                files |= dict.fromkeys(included.sections(), path)
    return Configuration(main=main, sections=sections, files=files)


def _parsed(path: Path) -> configparser.RawConfigParser | None:
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"), strict=False)
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
    except (OSError, configparser.Error, UnicodeDecodeError):
        return None
    return parser


def _main_file(pid: int) -> Path | None:
    """Return the file that the process was given, or finds as supervisord does."""
    words = command_line(pid)
    try:
        place = Path(f"/proc/{pid}/cwd").readlink()
    except OSError:
        return None
    for number, word in enumerate(words):
        if word in ("-c", "--configuration") and number + 1 < len(words) and number > 1:
            return place / words[number + 1]
        if word.startswith("--configuration="):
            return place / word.partition("=")[2]
        if word.startswith("-c") and len(word) > 2 and number > 1:
            return place / word[2:]
    return next((path for name in CONFIGURATIONS if (path := place / name).is_file()), None)
