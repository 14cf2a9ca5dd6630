"""Which mounts a run needs, under which other paths a directory can be seen, and the removal of its private places."""

from __future__ import annotations

import os
from pathlib import Path

from flowherd_runner.isolation import private_places
from flowherd_runner.isolation.mount_plan import Layer, arrange, holder_of
from flowherd_runner.isolation.mount_table import MountTable, read_mount_table


def layers(covered: list[str], kept: dict[str, bool]) -> list[tuple[str, dict[str, bool]]]:
    return [(layer.path, layer.inside) for layer in arrange(covered, kept).layers]


def test_what_a_layer_hides_anyway_is_not_covered_again() -> None:
    assert layers(["/home/u/.flowherd", "/home/u/.flowherd/state", "/tmp"], {}) == [
        ("/home/u/.flowherd", {}),
        ("/tmp", {}),
    ]


def test_what_lies_in_a_kept_path_is_covered_before_the_path_around_it_is() -> None:
    found = arrange(["/tmp", "/tmp/project/secret", "/tmp/project/secret/deep"], {"/tmp/project": True})
    assert [layer.path for layer in found.layers] == ["/tmp/project/secret", "/tmp"]
    assert found.layers[1].inside == {"project": True}
    assert found.keep == ["/tmp/project"]


def test_a_kept_path_in_what_is_covered_in_another_kept_path_is_attached_after_that() -> None:
    found = arrange(["/tmp", "/tmp/a/hidden"], {"/tmp/a": True, "/tmp/a/hidden/file": False, "/usr": True})
    assert found.layers == [Layer("/tmp/a/hidden", {"file": False}), Layer("/tmp", {"a": True})]
    assert found.keep == ["/tmp/a", "/tmp/a/hidden/file"]


def test_the_nearest_place_around_a_path_is_found_and_no_other_that_begins_likewise() -> None:
    places = {"/home", "/home/u", "/home/us"}
    assert holder_of("/home/u/x/y", places) == "/home/u"
    assert holder_of("/home/us", places) == "/home/us"
    assert holder_of("/home/user", places) == "/home"
    assert holder_of("/homes", places) is None
    assert holder_of("relative", {"/"}) is None


def test_the_mount_table_is_read_as_the_kernel_writes_it() -> None:
    line = "36 35 98:0 /mnt1 /mnt\\0402 ro,nosuid,noatime master:1 - ext3 /dev/root rw,errors=continue"
    (mount,) = MountTable(line).mounts
    assert (mount.number, mount.device, mount.root, mount.point) == (36, "98:0", "/mnt1", "/mnt 2")
    assert (mount.read_only, mount.source, mount.kind) == (True, "/dev/root", "ext3")


def test_the_mount_through_which_a_file_was_opened_is_found() -> None:
    fd = os.open("/proc/self/status", os.O_PATH)
    try:
        found = read_mount_table().mount_of(fd)
    finally:
        os.close(fd)
    assert found is not None
    assert found.point == "/proc"


def test_a_closed_and_a_deep_tree_are_removed_and_no_link_is_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()
    run = tmp_path / "run"
    run.mkdir()
    top = Path(private_places.make(str(run))) / private_places.TMP
    assert top.stat().st_mode & 0o7777 == 0o1777
    (top / "link").symlink_to(outside)
    closed = top / "closed" / "inner"
    closed.mkdir(parents=True)
    (closed / "file").touch()
    for directory in (closed, closed.parent):
        directory.chmod(0)
    fd = os.open(top, os.O_RDONLY)
    for _ in range(1100):  # deeper than a recursion can go
        os.mkdir("deep", dir_fd=fd)
        inner = os.open("deep", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)
    assert private_places.remove(str(run)) is None
    assert list(run.iterdir()) == []
    assert (outside / "file").exists()


def test_places_that_are_left_from_an_earlier_start_are_made_anew(tmp_path: Path) -> None:
    first = Path(private_places.make(str(tmp_path)))
    (first / private_places.TMP / "link").symlink_to("/etc")
    private_places.make(str(tmp_path))
    assert list((first / private_places.TMP).iterdir()) == []
