"""sdist and wheel hold what they should, can be installed, and say what is needed where flowherd cannot run."""

from __future__ import annotations

import os
import site
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.metadata import Metadata

from tests.peers.environments import Unavailable, interpreter
from tests.support.checkout import ROOT, copy_checkout

pytestmark = [pytest.mark.usefixtures("no_process_left"), pytest.mark.slow]

OLD_PYTHONS = ["3.7", "3.8", "3.9"]
_SOURCES = {
    "flowherd": "supervisor",
    "flowherd_server": "supervisor",
    "flowherd_supervisord": "supervisor",
    "flowherd_runner": "runners",
}
_NEEDS = "flowherd needs Linux and Python 3.10 or newer; this is Python "


@dataclass(frozen=True)
class Built:
    checkout: Path
    sdist: Path
    wheel: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The sdist, and the wheel that is built from it."""
    place = tmp_path_factory.mktemp("built")
    checkout = copy_checkout(place / "checkout")
    build = [sys.executable, "-m", "build", "--outdir", str(place / "dist"), str(checkout)]
    subprocess.run(build, check=True, capture_output=True)
    (sdist,), (wheel,) = (place / "dist").glob("*.tar.gz"), (place / "dist").glob("*.whl")
    return Built(checkout, sdist, wheel)


def files_below(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


def test_the_wheel_holds_every_file_of_the_packages_and_of_conf_and_nothing_else(built: Built) -> None:
    expected = {f"flowherd/conf/{name}" for name in files_below(built.checkout / "conf")}
    for package, root in _SOURCES.items():
        expected |= {f"{package}/{name}" for name in files_below(built.checkout / root / package)}
    with zipfile.ZipFile(built.wheel) as archive:
        names = archive.namelist()
    metadata = {name for name in names if ".dist-info/" in name}
    assert set(names) - metadata == expected
    assert {"flowherd/py.typed", "flowherd_server/py.typed", "flowherd/web/templates/base.html"} <= expected
    assert any(name.endswith("licenses/LICENSE") for name in metadata)


def test_the_sdist_builds_the_wheel_and_holds_no_tests(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"setup.py", "pyproject.toml", "LICENSE", "README.md", "conf/flowherd.toml"} <= names
    assert not any(name.startswith(("tests", ".")) for name in names)


def test_the_metadata_is_valid_and_names_what_is_needed(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = Metadata.from_email(archive.read(name))  # raises for what an index would refuse
    assert str(metadata.requires_python) == ">=3.10"
    assert metadata.description_content_type == "text/markdown"
    assert metadata.description == (ROOT / "README.md").read_text(encoding="utf-8")
    assert "Operating System :: POSIX :: Linux" in (metadata.classifiers or [])


@pytest.mark.parametrize("kind", ["wheel", pytest.param("sdist", marks=pytest.mark.full)])
def test_what_is_installed_in_a_fresh_environment_works(built: Built, tmp_path: Path, kind: str) -> None:
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    (packages,) = venv.glob("lib/python*/site-packages")
    # What flowherd requires is that of the tests; test_front_door.py installs all of it.
    (packages / "requirements.pth").write_text("\n".join(site.getsitepackages()))
    pip = [sys.executable, "-m", "pip", "--python", str(venv), "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, str(getattr(built, kind))], check=True, capture_output=True, cwd=tmp_path)
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    where = "import flowherd, flowherd_server, flowherd.config.conf_files as c; print(flowherd.__file__)"
    found = subprocess.run([venv / "bin/python", "-c", where], env=env, capture_output=True, text=True, check=True)
    assert found.stdout.startswith(str(packages))
    for arguments in (["--version"], ["install", "systemd"], ["config"]):
        done = subprocess.run([venv / "bin/flowherd", *arguments], env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout


# -- where flowherd cannot run


def old_python(minor: str) -> Path:
    try:
        return interpreter(minor)
    except Unavailable as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("minor", OLD_PYTHONS)
def test_pip_of_an_old_python_says_which_is_needed_for_the_wheel(built: Built, tmp_path: Path, minor: str) -> None:
    assert_refused_by_pip(old_python(minor), built.wheel, tmp_path)


@pytest.mark.full
@pytest.mark.parametrize("minor", OLD_PYTHONS)
@pytest.mark.parametrize("kind", ["sdist", "checkout"])
def test_pip_of_an_old_python_says_which_is_needed_for_sources(
    built: Built, tmp_path: Path, minor: str, kind: str
) -> None:
    assert_refused_by_pip(old_python(minor), getattr(built, kind), tmp_path)


def assert_refused_by_pip(python: Path, source: Path, place: Path) -> None:
    pip = [python, "-m", "pip", "install", "--no-deps", "--target", place / "target", source]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "requires a different Python" in done.stderr and ">=3.10" in done.stderr, done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize("minor", OLD_PYTHONS)
def test_an_old_python_says_in_one_sentence_what_is_needed(tmp_path: Path, minor: str) -> None:
    python = old_python(minor)
    script = tmp_path / "flowherd"
    script.write_text("from flowherd.cli.main import main\nmain()\n")
    for arguments in (["-m", "flowherd", "ps"], ["-m", "flowherd_server"], [str(script), "start"]):
        assert_needs(python, arguments, f"{minor}.", " on linux\n")


def test_another_system_than_linux_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.platform = 'darwin'\n")
    paths = {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT / "supervisor"), str(ROOT / "runners")])}
    for arguments in (["-m", "flowherd", "ps"], ["-m", "flowherd_server"]):
        assert_needs(Path(sys.executable), arguments, "3.", " on darwin\n", **paths)
    done = subprocess.run(
        [sys.executable, "setup.py", "--version"],
        cwd=ROOT,
        env={**os.environ, **paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "flowherd needs Linux and Python 3.10 or newer; this is darwin\n")


def assert_needs(python: Path, arguments: list[str], version: str, end: str, **variables: str) -> None:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(str(ROOT / name) for name in ("supervisor", "runners"))}
    env |= {"PYTHONDONTWRITEBYTECODE": "1", **variables}
    done = subprocess.run([python, *arguments], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(_NEEDS + version) and done.stderr.endswith(end) and done.stderr.count("\n") == 1


def test_a_program_that_imports_flowherd_gets_an_import_error() -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT / "supervisor"), "PYTHONDONTWRITEBYTECODE": "1"}
    code = "try:\n import flowherd\nexcept ImportError as error:\n print(error)"
    done = subprocess.run([old_python("3.9"), "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(_NEEDS + "3.9.")
