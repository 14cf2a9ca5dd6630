"""Secrets and files of variables, read when a run starts; what is missing is named, what was read never shown."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flowherd_runner.kinds.definition import NotStarted
from flowherd_runner.secret_sources import read_sources


def read_file(path: Path) -> dict[str, str]:
    return read_sources({}, [str(path)], {}).from_files


def message(secrets: dict[str, str], env_files: list[str]) -> str:
    with pytest.raises(NotStarted) as caught:
        read_sources(secrets, env_files, {"OTHER": "x"})
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "value"),
    [(b"abc\n", "abc"), (b"abc\r\n", "abc"), (b"abc\n\n", "abc\n"), (b" a=b ", " a=b "), (b"", "")],
)
def test_a_secret_is_the_files_content_without_its_last_newline(tmp_path: Path, content: bytes, value: str) -> None:
    (tmp_path / "s").write_bytes(content)
    assert read_sources({"S": f"file:{tmp_path}/s"}, [], {}).secrets == {"S": value}


def test_a_secret_may_be_a_variable_and_files_may_be_links_or_in_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "s").write_text("abc")
    (tmp_path / "link").symlink_to("s")
    sources = {"A": "env:VAR", "B": "file:~/s", "C": f"file:{tmp_path}/link"}
    assert read_sources(sources, [], {"VAR": "v"}).secrets == {"A": "v", "B": "abc", "C": "abc"}


def test_an_isolated_runs_files_are_read_by_no_link(tmp_path: Path) -> None:
    """Not one into flowherd's home, nor to a descriptor of the runner, such as that of the agent's credentials."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "token").write_text("hunter2")
    for name, target in (("link", home / "token"), ("directory", home)):
        (tmp_path / name).symlink_to(target)
    fd = os.memfd_create("credentials")
    os.write(fd, b"hunter2")
    (tmp_path / "descriptor").symlink_to(f"/proc/self/fd/{fd}")
    try:
        for path in (tmp_path / "link", tmp_path / "directory" / "token", tmp_path / "descriptor"):
            with pytest.raises(NotStarted, match="by a link that was not there") as caught:
                read_sources({"S": f"file:{path}"}, [], {}, [str(home)])
            with pytest.raises(NotStarted, match="by a link that was not there"):
                read_sources({}, [str(path)], {}, [str(home)])
            assert "hunter2" not in str(caught.value)
    finally:
        os.close(fd)
    with pytest.raises(NotStarted, match="it is in /proc"):
        read_sources({"S": f"file:/proc/{os.getpid()}/comm"}, [], {}, [str(home)])
    # The agent's own settings name it as it is.
    assert read_sources({"S": f"file:{home}/token"}, [], {}, [str(home)]).secrets == {"S": "hunter2"}
    (tmp_path / "home2").write_text("x")
    assert read_sources({"S": f"file:{tmp_path}/home2"}, [], {}, [str(home)]).secrets == {"S": "x"}


def test_a_file_of_variables(tmp_path: Path) -> None:
    path = tmp_path / "env"
    path.write_bytes(
        b'\xef\xbb\xbf# comment\n\nA=1\r\nexport B = two words \nC=\'a "b" \\n\'\nD="x\\ny\\"z"\nE=a=b#c\nF=\nA=2\n'
    )
    assert read_file(path) == {
        "A": "2", "B": "two words", "C": 'a "b" \\n', "D": 'x\ny"z', "E": "a=b#c", "F": ""
    }  # fmt: skip


def test_the_later_file_counts(tmp_path: Path) -> None:
    for name, value in (("one", "1"), ("two", "2")):
        (tmp_path / name).write_text(f"A={value}\n")
    assert read_sources({}, [str(tmp_path / "one"), str(tmp_path / "two")], {}).from_files == {"A": "2"}


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    assert message({"DB": "env:NOT_THERE"}, []) == (
        "the secret DB is read from the variable NOT_THERE, which the agent's environment does not have"
    )
    assert message({"DB": f"file:{tmp_path}/no"}, []) == (
        f"the secret DB cannot be read from the file {tmp_path}/no: No such file or directory"
    )
    assert f"cannot be read from the file {tmp_path}/no: No such" in message({}, [f"{tmp_path}/no"])
    assert "the secret DB is neither file:PATH nor env:VARIABLE" in message({"DB": "hunter22"}, [])


def test_what_is_no_file_is_refused_and_waits_for_nothing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert message({"S": f"file:{tmp_path}/pipe"}, []).endswith("it is not a regular file")
    assert message({"S": f"file:{tmp_path}"}, []).endswith(("it is not a regular file", "Is a directory"))
    assert message({"S": "file:/dev/zero"}, []).endswith("it is not a regular file")
    (tmp_path / "large").write_bytes(b"x" * (1 << 20) + b"x")
    assert message({"S": f"file:{tmp_path}/large"}, []).endswith("it is larger than 1048576 bytes")
    (tmp_path / "nul").write_bytes(b"a\0b")
    assert message({"S": f"file:{tmp_path}/nul"}, []).endswith("it contains a NUL, which no variable can")


@pytest.mark.parametrize(
    "line", ["hunter22", "=hunter22", "A B=hunter22", 'A="hunter22', "A='hunter22\"", "2A=hunter22"]
)
def test_a_line_that_is_no_pair_is_named_and_not_shown(tmp_path: Path, line: str) -> None:
    path = tmp_path / "env"
    path.write_text(f"X=1\n{line}\n")
    text = message({}, [str(path)])
    assert f"line 2 of the file {path}" in text
    assert "hunter22" not in text
