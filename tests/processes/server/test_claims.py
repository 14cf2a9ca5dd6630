"""Of many agents that claim a run at once, exactly one wins."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.support.dialect import Client

#: A process with several threads, each of which tries to claim every run, all in the same order.
CLAIMER = """
import json, sys, threading
import requests

url, runs, name = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
TEXT = "mutation($input: set_flow_run_states_input!) { set_flow_run_states(input: $input) { states { status } } }"
won = []

def claim(agent):
    with requests.Session() as session:
        for run in runs:
            state = {"type": "Submitted", "context": {"flowherd": {"claim": agent + run}}}
            states = [{"flow_run_id": run, "version": 1, "state": state}]
            body = {"query": TEXT, "variables": {"input": {"states": states}}}
            answer = session.post(url, json=body, timeout=60).json()
            if "errors" not in answer:
                won.append([run, agent + run])
            else:
                assert "State update failed" in answer["errors"][0]["message"], answer

print("ready", flush=True)
sys.stdin.readline()
threads = [threading.Thread(target=claim, args=(f"{name}-{n}-",)) for n in range(5)]
[t.start() for t in threads]
[t.join() for t in threads]
print(json.dumps(won))
"""


def test_of_many_agents_that_claim_a_run_at_once_exactly_one_wins(client: Client) -> None:
    flow = client.flow()
    runs = [client.create_run(flow) for _ in range(15)]
    arguments = [client.server.url + "/graphql", json.dumps(runs)]
    claimers = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIMER, *arguments, f"p{n}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(3)
    ]
    for claimer in claimers:
        assert claimer.stdout is not None
        assert claimer.stdout.readline() == "ready\n"
    outputs = [claimer.communicate("go\n", timeout=60)[0] for claimer in claimers]
    assert [claimer.returncode for claimer in claimers] == [0, 0, 0]
    won = [tuple(each) for output in outputs for each in json.loads(output)]
    assert sorted(run for run, _ in won) == sorted(runs)
    for run_id, claim in won:
        found = client.run(run_id, "version serialized_state")
        assert found["version"] == 2
        assert found["serialized_state"]["context"]["flowherd"]["claim"] == claim
