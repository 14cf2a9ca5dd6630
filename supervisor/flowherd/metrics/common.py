"""Gauges that agent and server have both."""

from __future__ import annotations

import platform

from flowherd import __version__
from flowherd.metrics.families import Part
from flowherd.metrics.tally import Sample


def build_info(part: Part) -> Sample:
    """Return the family that says which program this is."""
    return Sample("flowherd_build_info", 1.0, (part.value, __version__, platform.python_version()))
