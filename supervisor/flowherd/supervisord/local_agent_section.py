"""The section of supervisord.conf for an agent whose options are given as arguments, not by a command line."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from flowherd.config import load_settings
from flowherd.config.loading import HOME_VARIABLE
from flowherd.supervisord.service_files import STOP_MARGIN_S, Service, stdout_log, supervisord_section


def local_agent_section(
    labels: Iterable[str], import_paths: Iterable[str], show_flow_logs: bool, env_vars: Mapping[str, str]
) -> str:
    """Return the [program:flowherd] section that runs `flowherd start` with these options.

    `env_vars` are variables of every run. Raises ConfigurationError for what the format cannot express.
    """
    options = ["--show-flow-logs"] if show_flow_logs else []
    options += [word for label in labels for word in ("-l", str(label))]
    options += [word for name, value in env_vars.items() for word in ("-e", f"{name}={value}")]
    options += [word for path in import_paths for word in ("-p", os.fspath(path))]
    loaded = load_settings()
    agent = loaded.settings.agent
    service = Service(
        name="flowherd",
        # Not resolved: the python of a virtual environment is a link to one outside the environment.
        argv=[str(Path(sys.executable).absolute()), "-m", "flowherd", "start", *options],
        environment={HOME_VARIABLE: str(loaded.paths.home)},
        directory=Path("/"),
        stop_wait_s=round(agent.drain_deadline + agent.grace + STOP_MARGIN_S),
        log_file=stdout_log("flowherd", loaded.paths.home),
    )
    return supervisord_section(service)
