"""What the two lines of Prefect call differently."""

from __future__ import annotations

import os
from datetime import timedelta

import prefect

NEW = prefect.__version__.startswith("1.")

if NEW:
    from prefect.executors import DaskExecutor, LocalDaskExecutor
    from prefect.storage import Local
else:
    from prefect.engine.executors import DaskExecutor, LocalDaskExecutor
    from prefect.environments.storage import Local

__all__ = ["NEW", "DaskExecutor", "Local", "LocalDaskExecutor", "logger", "on", "scratch", "seconds", "with_labels"]


def logger():
    """That of the task that runs."""
    return prefect.context.get("logger")


def scratch(name):
    """A file of this run's own."""
    directory = os.path.join(os.environ["PEERS_SCRATCH"], prefect.context.flow_run_id)
    os.makedirs(directory, exist_ok=True)
    return os.path.join(directory, name)


def seconds(number):
    return timedelta(seconds=number)


def on(flow, executor):
    """The flow, to be run on this executor."""
    if NEW:
        flow.executor = executor
    else:
        from prefect.environments import LocalEnvironment

        flow.environment = LocalEnvironment(executor=executor)
    return flow


def with_labels(flow, labels):
    """The flow, for agents with these labels."""
    if NEW:
        from prefect.run_configs import UniversalRun

        flow.run_config = UniversalRun(labels=labels)
    else:
        from prefect.environments import LocalEnvironment

        flow.environment = LocalEnvironment(labels=labels)
    return flow
