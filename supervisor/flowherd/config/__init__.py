"""Configuration: the settings, the sources of their values, and where each value came from.

sections          how a section of settings is declared
checking          checks the values of a section and converts them
settings          every setting with its default, bounds and meaning
notify_settings   the settings of notifications
catalogue         the settings as a list by dotted name
sources           what each source says: arguments, environment, files
prefect_file      what the configuration of Prefect 0.x and 1.x says
prefect3_sources  what Prefect 3's own variables, files and profiles say
proxies           the proxies of the environment
route             how an API is reached: authorities, certificates, headers, proxies
field_types       types of settings that are checked
urls              URLs as they may be shown
toml_files        reading configuration files
config_values     from text to values
runtime_option    a runtime written as one option
loading           load_settings, which joins all of these
origins           where a value came from
conf_files        where the files of conf/ are installed
"""

from __future__ import annotations

from flowherd.config.loading import CONVERTING_FILE, LoadedSettings, Paths, load_settings
from flowherd.config.origins import Origin, Source
from flowherd.config.settings import Settings

__all__ = ["CONVERTING_FILE", "LoadedSettings", "Origin", "Paths", "Settings", "Source", "load_settings"]
