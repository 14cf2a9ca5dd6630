"""The trial of what keeps runs apart, on a host that gives it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from flowherd.cli.doctor.check_isolation import check_isolation as findings
from flowherd.config import load_settings
from flowherd.host.isolation_trial import try_isolation
from flowherd_runner.contract.isolation import LEVELS, NETWORKS

pytestmark = [
    pytest.mark.usefixtures("no_process_left"),
    pytest.mark.skipif(
        subprocess.run(["unshare", "-mp", "true"], capture_output=True, check=False).returncode != 0,
        reason="this user has no namespaces here",
    ),
]


def test_each_level_is_in_force_with_and_without_a_network_and_nothing_is_left(clean_environment: Path) -> None:
    trial = try_isolation(clean_environment)
    found = {(level, network): trial.of(level, network) for level in LEVELS[1:] for network in NETWORKS}
    assert {key: one.lacks for key, one in found.items()} == dict.fromkeys(found, "")
    sealed = found[("sealed", "none")].in_force
    assert sealed is not None
    assert {"the runner cannot be signalled", "no network can be reached"} <= set(sealed.proved)
    assert list(clean_environment.glob("trial-*")) == []


def test_doctor_has_a_finding_for_each_level(clean_environment: Path) -> None:
    names = {one.check: one.grade for one in findings(load_settings())}
    assert names == {"isolation private": "ok", "isolation sealed": "ok"}
