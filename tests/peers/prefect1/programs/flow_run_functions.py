"""What Prefect's own functions for agents return for a flow run of flowherd and for a row as Prefect has it.

Arguments: the directory of the package flowherd, of which only the flow run is loaded: the rest needs a newer Python.
Prints one JSON object: for each function and case the two results.
"""

import json
import sys
import types

import prefect
from prefect.engine.state import Scheduled
from prefect.serialization.state import StateSchema
from prefect.serialization.storage import StorageSchema
from prefect.utilities.agent import get_flow_image
from prefect.utilities.graphql import GraphQLResult

package = types.ModuleType("flowherd")
package.__path__ = [sys.argv[1]]
sys.modules["flowherd"] = package

from flowherd.flow_run import FlowRun, as_flow_run  # noqa: E402

NEW = not prefect.__version__.startswith("0.")
if NEW:
    from prefect.run_configs import DockerRun, LocalRun
    from prefect.serialization.run_config import RunConfigSchema
    from prefect.storage import S3, Docker, Local
    from prefect.utilities.agent import get_flow_run_command
else:
    from prefect.environments import LocalEnvironment
    from prefect.environments.storage import S3, Docker, Local
    from prefect.serialization.environment import EnvironmentSchema


def row(storage, **flow):
    """A row as the API has it: through JSON."""
    found = {
        "id": "11111111-2222-3333-4444-555555555555",
        "name": "brave-otter",
        "version": 1,
        "state": "Scheduled",
        "serialized_state": Scheduled(message="soon").serialize(),
        "parameters": {"x": [1, {"y": 2}]},
        "run_config": flow.pop("run_config", None),
        "flow": {"id": "f", "name": "etl", "version": 1, "environment": None, "storage": storage.serialize(), **flow},
        "task_runs": [{"id": "t", "task_id": "k", "version": 1, "serialized_state": Scheduled().serialize()}],
    }
    return json.loads(json.dumps(found))


def text(function, flow_run):
    """What the function returns, or raises."""
    try:
        found = function(flow_run)
    except Exception as error:
        return "{}: {}".format(type(error).__name__, error)
    return json.dumps(found.serialize(), sort_keys=True) if hasattr(found, "serialize") else str(found)


def rows():
    image = Docker(registry_url="reg", image_name="img", image_tag="1")
    yield "local", row(Local(directory="/flows"))
    yield "s3", row(S3(bucket="b", key="k"), core_version="1.4.1")
    if NEW:
        yield "docker", row(image, run_config=LocalRun(env={"A": "1"}).serialize())
        yield "image", row(Local(directory="/flows"), run_config=DockerRun(image="own").serialize())
        yield "old", row(Local(directory="/flows"), core_version="0.12.6")
    else:
        environment = LocalEnvironment(metadata={"image": "own"}, labels=["x"])
        yield "docker", row(image, environment=LocalEnvironment().serialize())
        yield "image", row(Local(directory="/flows"), environment=environment.serialize())


def functions():
    yield "storage", lambda run: StorageSchema().load(run.flow.storage)
    yield "state", lambda run: StateSchema().load(run.serialized_state).is_scheduled()
    yield "task state", lambda run: StateSchema().load(run.task_runs[0].serialized_state).is_scheduled()
    yield "image", get_flow_image
    if not NEW:
        yield "environment", lambda run: EnvironmentSchema().load(run.flow.environment)
    else:
        yield "command", get_flow_run_command
        yield "run config", lambda run: RunConfigSchema().load(run.run_config)
        yield "default image", lambda run: get_flow_image(run, default="given")


found = {}
for case, one in rows():
    ours = as_flow_run(one)
    assert type(ours) is FlowRun
    for name, function in functions():
        found["{} of {}".format(name, case)] = [text(function, ours), text(function, GraphQLResult(one))]
print(json.dumps(found))
