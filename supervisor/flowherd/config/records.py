"""Settings of what the agent records of its own work: its log, and traces."""

from __future__ import annotations

from flowherd.config.field_types import ApiAddress
from flowherd.config.sections import Field, Section


class Logging(Section):
    """The agent's own log."""

    json_lines: bool = Field(default=False, description="Write one JSON object per line instead of text.")
    journald: bool = Field(
        default=False,
        description="Write to systemd's journal instead of standard error, with fields such as FLOWHERD_RUN_ID.",
    )
    file: str = Field(default="", description="File to write the log to as well; it is rotated.")
    rotation: str = Field(default="10 MB", description="When to rotate the file: a size, an interval or a time of day.")
    retention: int = Field(default=5, ge=1, description="Number of rotated files to keep.")


class Traces(Section):
    """Traces of runs, in OpenTelemetry's protocol. They need the extra `flowherd[otel]`."""

    endpoint: ApiAddress = Field(
        default="",
        description="URL to which the agent sends a trace of each run that has ended, by OTLP over HTTP, such as "
        "http://127.0.0.1:4318/v1/traces; empty: none.",
    )
