"""Which versions of Prefect a test of 0.x and 1.x runs with."""

from __future__ import annotations

import pytest

from tests.peers.environments import PREFECT_0, PREFECT_0_AND_1, PREFECT_1


def both_versions(fixture: str) -> pytest.MarkDecorator:
    """Run the test with both: it depends on code of Prefect's that differs, or on ours for one of them."""
    return pytest.mark.parametrize(fixture, PREFECT_0_AND_1, indirect=True, scope="module")


def one_version(fixture: str, version: str = PREFECT_1) -> pytest.MarkDecorator:
    """Run the test with one, and with the other under --full: what it shows is the same in both."""
    other = PREFECT_0 if version == PREFECT_1 else PREFECT_1
    values = [version, pytest.param(other, marks=pytest.mark.full)]
    return pytest.mark.parametrize(fixture, values, indirect=True, scope="module")
