"""What a LocalAgent makes of its arguments: its attributes, and the labels that it gives itself."""

from __future__ import annotations

import socket

import pytest

from flowherd import LocalAgent
from flowherd.backends.memory import MemoryBackend


def labels_of(*labels: str, **options: bool) -> list[str]:
    return LocalAgent(labels=labels, backend=MemoryBackend(), **options).labels  # type: ignore[arg-type]


def test_arguments_are_attributes() -> None:
    agent = LocalAgent(
        name="test", import_paths=["test_path"], show_flow_logs=True, no_cloud_logs=True, backend=MemoryBackend()
    )
    assert (agent.name, agent.import_paths, agent.show_flow_logs, agent.log_to_cloud) == (
        "test",
        ["test_path"],
        True,
        False,
    )
    default = LocalAgent(backend=MemoryBackend())
    assert (default.name, default.import_paths, default.show_flow_logs, default.log_to_cloud) == (
        "agent",
        [],
        False,
        True,
    )


def test_the_hosts_name_is_one_of_them_once_unless_that_is_not_wanted() -> None:
    host = socket.gethostname()
    assert labels_of("a") == ["a", host]
    assert labels_of(host, "a") == [host, "a"]
    assert labels_of("a", hostname_label=False) == ["a"]


def test_a_host_of_docker_desktop_is_labelled_by_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """All such hosts have the same name, so it would say nothing."""
    monkeypatch.setattr(socket, "gethostname", lambda: "docker-desktop")
    monkeypatch.setattr(socket, "gethostbyname", {"docker-desktop": "192.168.65.3"}.__getitem__)
    assert labels_of() == ["192.168.65.3"]


def test_such_a_host_without_an_address_keeps_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str) -> str:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "gethostname", lambda: "docker-desktop")
    monkeypatch.setattr(socket, "gethostbyname", unknown)
    assert labels_of() == ["docker-desktop"]
