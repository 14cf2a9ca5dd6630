"""Configuration: settings and their bounds, the sources of their values, and where each value came from.

settings   every setting, as frozen values
catalogue  the same as a list of dotted names
texts      from text to values
toml_files configuration files
sources    arguments, environment, files, as pydantic-settings sources
loading    load_settings: all of it together
"""

from __future__ import annotations

from flowherd.config.loading import LoadedSettings, Paths, load_settings
from flowherd.config.origins import Origin, Source
from flowherd.config.settings import Settings

__all__ = ["LoadedSettings", "Origin", "Paths", "Settings", "Source", "load_settings"]
