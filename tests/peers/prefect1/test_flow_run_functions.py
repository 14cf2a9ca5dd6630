"""Prefect's own functions for agents work on a flow run of flowherd as on a row of Prefect's own client."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

import flowherd
from tests.peers.environments import PREFECT_0_AND_1, required_installation

PROGRAM = Path(__file__).with_name("programs") / "flow_run_functions.py"
IMAGES = {
    "0.13.1": {"image of docker": "reg/img:1", "image of image": "own"},
    "1.4.1": {
        "image of docker": "reg/img:1",
        "image of image": "own",
        "image of s3": "prefecthq/prefect:1.4.1",
        "default image of s3": "given",
        "command of s3": "prefect execute flow-run",
        "command of old": "prefect execute cloud-flow",
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("version", PREFECT_0_AND_1)
def test_storages_states_images_and_commands_are_found(version: str) -> None:
    python = required_installation(version).python
    package = Path(flowherd.__file__).parent
    output = subprocess.run([python, PROGRAM, package], stdout=subprocess.PIPE, text=True, timeout=60, check=True)
    found = json.loads(output.stdout)
    assert {name: ours for name, (ours, theirs) in found.items() if ours != theirs} == {}
    assert {name: found[name][0] for name in IMAGES[version]} == IMAGES[version]
    assert '"type": "Local"' in found["storage of local"][0] and found["state of local"][0] == "True"
