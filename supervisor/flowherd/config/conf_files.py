"""Finds the files of conf/: inside the package in an installation, at the project's root in a checkout."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def conf_directory() -> Path:
    """Return the directory with the templates, the commented configuration file and the example flows.

    Raises FileNotFoundError if the installation lacks it.
    """
    for candidate in (_PACKAGE / "conf", _PACKAGE.parents[1] / "conf"):
        if (candidate / "flowherd.toml").is_file():
            return candidate
    raise FileNotFoundError(f"flowherd's conf directory is neither in {_PACKAGE} nor beside it; reinstall flowherd")
