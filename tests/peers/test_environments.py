"""How the environments are made, shown with pins that name nothing; all other tests here use the real ones."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.peers import environments
from tests.peers.environments import PREFECT_0_AND_1, PREFECT_1, Unavailable, found_or_made, required_installation

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.slow


@pytest.fixture
def no_pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make environments that take a second or two and no network."""
    (tmp_path / f"prefect-{PREFECT_1}.txt").write_text("# nothing\n")
    monkeypatch.setattr(environments, "_PINS", tmp_path)


@pytest.mark.parametrize("version", PREFECT_0_AND_1)
@pytest.mark.timeout(600)
def test_each_environment_holds_the_prefect_that_it_is_named_after(version: str) -> None:
    shown = subprocess.run(
        [required_installation(version).prefect, "version"], capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == version


@pytest.mark.usefixtures("no_pins")
def test_two_makers_at_once_make_one_environment_in_place_of_one_that_was_left_half_made(tmp_path: Path) -> None:
    required_installation(PREFECT_1)
    directory = tmp_path / "made"
    half = directory / "bin" / "prefect"
    half.parent.mkdir(parents=True)
    half.touch()
    (tmp_path / "made.lock").touch()
    with ThreadPoolExecutor(2) as makers:
        both = list(makers.map(lambda _: found_or_made(PREFECT_1, directory).python.stat().st_ctime_ns, range(2)))
    assert both[0] == both[1] == found_or_made(PREFECT_1, directory).python.stat().st_ctime_ns
    assert not half.exists()


def test_an_environment_that_was_put_there_by_hand_is_taken_as_it_is(tmp_path: Path) -> None:
    prefect = tmp_path / "given" / "bin" / "prefect"
    prefect.parent.mkdir(parents=True)
    prefect.touch()
    assert found_or_made(PREFECT_1, tmp_path / "given").prefect == prefect


def test_without_an_interpreter_the_reason_tells_how_to_get_one() -> None:
    with pytest.raises(Unavailable, match=r"pyenv install 3\.99.*FLOWHERD_PEERS_DIR"):
        environments.interpreter("3.99")


def test_a_missing_peer_is_a_skip_at_home_and_a_failure_where_it_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(version: str) -> None:
        raise Unavailable(f"there is no {version}")

    monkeypatch.setattr(environments, "installation", nowhere)
    monkeypatch.setattr(environments, "REQUIRED", False)
    with pytest.raises(pytest.skip.Exception, match="there is no"):
        required_installation(PREFECT_1)
    monkeypatch.setattr(environments, "REQUIRED", True)
    with pytest.raises(pytest.fail.Exception, match="FLOWHERD_REQUIRE_PEERS=1, but there is no"):
        required_installation(PREFECT_1)
