"""Read cases from standard input and print the process worker's job for each, as JSON. Run by the real Prefect 3."""

import asyncio
import json
import sys

from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from prefect.workers.process import ProcessJobConfiguration


async def resolved(case, client):
    try:
        made = await ProcessJobConfiguration.from_template_and_values(
            case["template"], case["variables"], client=client
        )
    except (ValueError, TypeError, KeyError, AttributeError, ObjectNotFound):
        return None
    working_dir = None if made.working_dir is None else str(made.working_dir)
    return {
        "command": made.command,
        "env": made.env,
        "stream_output": made.stream_output,
        "working_dir": working_dir,
    }


async def main():
    async with get_client() as client:
        print(json.dumps([await resolved(case, client) for case in json.load(sys.stdin)]))


asyncio.run(main())
