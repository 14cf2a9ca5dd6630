"""A real server process for the client commands, and what an agent would do there. No agent runs in these tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flowherd.backends.graphql.transport import GraphQLTransport
from tests.acceptance.client_commands.helpers import FakeAgent
from tests.support.commands import CommandLine
from tests.support.leftovers import none_left
from tests.support.server import ServerProcess, running_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One server for all tests of a module: each test uses flow names of its own."""
    with none_left(), running_server(tmp_path_factory.mktemp("shared") / "data") as server:
        yield server


@pytest.fixture
def command(server: ServerProcess) -> CommandLine:
    """flowherd with the home in which that server announces itself."""
    return CommandLine(server.home)


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server for one test, which may stop it or look at everything in it."""
    with running_server(tmp_path / "data") as server:
        yield server


@pytest.fixture
def own_command(own_server: ServerProcess) -> CommandLine:
    """flowherd with the home of that server."""
    return CommandLine(own_server.home)


@pytest.fixture
def transport(server: ServerProcess) -> Iterator[GraphQLTransport]:
    transport = GraphQLTransport(server.url)
    yield transport
    transport.close()


@pytest.fixture
def agent(transport: GraphQLTransport) -> FakeAgent:
    return FakeAgent(transport)


@pytest.fixture
def own_agent(own_server: ServerProcess) -> Iterator[FakeAgent]:
    transport = GraphQLTransport(own_server.url)
    yield FakeAgent(transport)
    transport.close()
