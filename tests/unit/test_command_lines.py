"""Secrets in the command lines of processes that a server is told."""

from __future__ import annotations

import pytest

from flowherd.host.processes.command_lines import command_line


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["train.py", "--epochs", "40"], "train.py --epochs 40"),
        (["mysql", "--password", "hunter22", "db"], "mysql --password *** db"),
        (["mysql", "--password=hunter22", "db"], "mysql --password=*** db"),
        (["env", "API_KEY=abc", "HOME=/x", "run"], "env API_KEY=*** HOME=/x run"),
        (["curl", "https://me:hunter22@host/x?y=1"], "curl https://me:***@host/x?y=1"),
        (["psql", "--conn=postgres://me:hunter22@host/db"], "psql --conn=postgres://me:***@host/db"),
        (["tool", "--token", "--verbose", "x"], "tool --token --verbose x"),
        (["./rotate-secret", "now"], "./rotate-secret now"),
        (["tool", "--token="], "tool --token="),
        ([], ""),
    ],
)
def test_values_that_are_named_like_secrets_are_masked(words: list[str], shown: str) -> None:
    assert command_line(words) == shown
