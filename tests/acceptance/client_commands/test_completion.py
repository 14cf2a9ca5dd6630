"""What a shell is given to complete: names with ids, agents, projects, states and words, from a real server."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flowherd.backends.graphql.transport import GraphQLTransport
from tests.acceptance.client_commands.helpers import register
from tests.support.commands import CommandLine

pytestmark = [pytest.mark.usefixtures("no_process_left"), pytest.mark.slow]


def completed(command: CommandLine, line: str, shell: str = "bash") -> list[str]:
    """What the shell's own script for completion gets for a line, the last word of which is to be completed."""
    words = line.split(" ")
    of_bash = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    of_others = {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    more = of_bash if shell == "bash" else of_others
    environment = {**command.env, "_FLOWHERD_COMPLETE": f"complete_{shell}", **more}
    done = replace(command, env=environment)(code=None)
    assert done.stderr == ""
    return done.stdout.split("\n")[:-1] if done.stdout else []


def test_names_ids_and_words_are_completed(command: CommandLine, transport: GraphQLTransport) -> None:
    register(command, "nightly-backup", "--project", "nights")
    run_id = command.run("nightly-backup", "--run-name", "amber-finch", "--project", "nights")
    transport.execute('mutation { register_agent(input: {type: "x", name: "barn-01", labels: []}) { id } }')
    (command.home / "agents" / "local-agent").mkdir(parents=True)
    for line, words in (
        ("flowherd run nigh", ["nightly-backup"]),
        (f"flowherd logs {run_id[:6]}", [run_id]),
        ("flowherd logs amb", ["amber-finch"]),
        ("flowherd logs --flow nig", ["nightly-backup"]),
        ("flowherd logs --level W", ["WARNING"]),
        ("flowherd logs --stream st", ["stderr", "stdout"]),
        ("flowherd register x --overlap ", ["allow", "queue", "replace", "skip"]),
        ("flowherd register x --catch-up l", ["last"]),
        ("flowherd register x --retry-on failed,s", ["failed,signal"]),
        ("flowherd run x --project nig", ["nights"]),
        ("flowherd ps --agent ba", ["barn-01"]),
        ("flowherd ps --state Canc", ["Cancelling", "Cancelled"]),
        ("flowherd pause -n local", ["local-agent"]),
        ("flowherd register x --timezone Europe/Berl", ["Europe/Berlin"]),
    ):
        assert sorted(completed(command, line)) == sorted(words), line
    (described,) = completed(command, f"flowherd explain {run_id[:6]}", "fish")
    assert described.split("\t") == [run_id, "amber-finch nightly-backup Scheduled"]
    (described,) = completed(command, "flowherd explain amber", "fish")
    assert described.split("\t") == ["amber-finch", f"{run_id} nightly-backup Scheduled"]
