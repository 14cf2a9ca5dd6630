"""The real client, and short forms of what the calls do with it."""

from __future__ import annotations

import uuid
from datetime import timedelta

import prefect
from prefect import Flow, Parameter, task

PREFECT_1 = prefect.__version__.startswith("1.")
PROJECT = "peers"

if PREFECT_1:
    from prefect.exceptions import ClientError
    from prefect.storage import Local
else:
    from prefect.environments.storage import Local
    from prefect.utilities.exceptions import ClientError

client = prefect.Client()


def ask(text, **variables):
    return client.graphql(text, variables=variables or None)["data"]


def do(operation, selection, **given):
    text = "mutation($input: {0}_input!) {{ {0}(input: $input) {{ {1} }} }}".format(operation, selection)
    return ask(text, input=given)[operation]


def refused(call, *arguments, **named):
    try:
        call(*arguments, **named)
    except ClientError as error:
        return str(error)
    raise AssertionError("{} was not refused".format(call))


def new_flow(name=None, tasks=2, **options):
    """Make a flow with a chain of tasks; many are side by side, because a long chain takes the clients a minute."""

    @task(tags=["even"], max_retries=3, retry_delay=timedelta(seconds=7))
    def step(x):
        return x

    with Flow(name or "flow-{}".format(uuid.uuid4()), **options) as flow:
        value = first = Parameter("p", default=1)
        for _ in range(tasks):
            value = step(value if tasks < 100 else first)
    flow.storage = Local(directory="flows")
    return flow


def registered(flow=None, **options):
    return (flow or new_flow()).register(project_name=PROJECT, no_url=True, **options)


def new_run(flow_id=None, **options):
    return client.create_flow_run(flow_id=flow_id or registered(), **options)
