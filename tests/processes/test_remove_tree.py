"""Removing a run's directory: read-only trees go, nothing outside is touched, and what stays is reported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flowherd.host.store.remove_tree import remove_tree
from tests.support.unprivileged import AS_NOBODY, NOBODY, needs_root, needs_setpriv


def remove_as_nobody(path: Path) -> str:
    """Remove a tree as an unprivileged user, for whom modes count; return what is left, as text."""
    code = "import sys; from pathlib import Path; from flowherd.host.store.remove_tree import remove_tree\n"
    code += "print(remove_tree(Path(sys.argv[1])))"
    command = [*AS_NOBODY, sys.executable, "-c", code, str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory with a subdirectory, all of it `nobody`'s where this is root."""
    top = tmp_path / "open" / "top"
    (top / "mod" / "lib@v1" / "sub").mkdir(parents=True)
    (top / "mod" / "lib@v1" / "sub" / "data.bin").write_bytes(b"x" * 100_000)
    if os.geteuid() == 0:
        for path in (top.parent, top, *top.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
    return top


@needs_root
@needs_setpriv
@pytest.mark.parametrize("mode", [0o555, 0o111, 0o000])
def test_directories_without_write_permission_are_removed(tree: Path, mode: int) -> None:
    for path in sorted(tree.rglob("*"), reverse=True):
        path.chmod(0o444 if path.is_file() else mode)
    assert remove_as_nobody(tree) == "None"
    assert not tree.exists()


@needs_root
@needs_setpriv
def test_files_of_another_user_stay_with_size_and_reason(tree: Path) -> None:
    roots = tree / "mod" / "roots"
    roots.mkdir(mode=0o755)
    (roots / "kept").write_bytes(b"x" * 50_000)
    remains = remove_as_nobody(tree)
    assert f"{roots / 'kept'}: Permission denied, it belongs to user root" in remains
    assert int(remains.partition("size_bytes=")[2].partition(",")[0]) >= 50_000
    assert [path.name for path in tree.rglob("*")] == ["mod", "roots", "kept"], "everything else is gone"


@needs_root
def test_what_is_mounted_below_is_not_touched(tree: Path, tmp_path: Path) -> None:
    """A bind mount of the same file system, which no device number tells apart."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "data").touch()
    mounted = tree / "mod" / "mounted"
    mounted.mkdir()
    if subprocess.run(["mount", "--bind", precious, mounted], capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting is not permitted here")
    try:
        remains = remove_tree(tree)
        assert remains is not None
        assert remains.reasons == (f"{mounted}: a file system is mounted there",)
        assert (precious / "data").exists()
    finally:
        subprocess.run(["umount", mounted], check=True)
    assert remove_tree(tree) is None, "the next try removes the rest"


def test_links_are_removed_and_not_followed(tree: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o555)
    (tree / "to-directory").symlink_to(outside)
    (tree / "mod" / "to-nothing").symlink_to("/nonexistent")
    (tmp_path / "link").symlink_to(outside)
    assert remove_tree(tree) is None
    assert outside.stat().st_mode & 0o777 == 0o555
    remains = remove_tree(tmp_path / "link")
    assert remains is not None, "a link in the place of the directory is left alone"
    assert outside.exists()


def test_a_tree_deeper_than_pythons_stack_is_removed(tree: Path) -> None:
    fd = os.open(tree, os.O_RDONLY)
    for _ in range(1100):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    assert remove_tree(tree) is None
    assert not tree.exists()
