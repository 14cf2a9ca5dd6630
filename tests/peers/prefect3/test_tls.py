"""A Prefect 3 server behind TLS, with a certificate of an authority that only the test knows."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowherd.backends.prefect3.backend import Prefect3Backend
from flowherd.backends.prefect3.pool import WorkPool
from flowherd.backends.prefect3.transport import Prefect3Transport
from flowherd.errors import BackendUnavailable
from tests.peers.prefect3.prefect_server import PrefectServer

pytestmark = pytest.mark.timeout(300)


class Terminator:
    """Terminate TLS of each connection and pass its bytes on, in a thread."""

    def __init__(self, target_port: int, certificate: Path, key: Path) -> None:
        self._target_port = target_port
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, key)
        self._loop = asyncio.new_event_loop()
        self._server = self._loop.run_until_complete(
            asyncio.start_server(self._connection, "127.0.0.1", 0, ssl=self._context)
        )
        self.port = int(self._server.sockets[0].getsockname()[1])
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, upstream = await asyncio.open_connection("127.0.0.1", self._target_port)
        await asyncio.gather(_carry(reader, upstream), _carry(answers, writer))


async def _carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
    except OSError:
        pass  # one side has closed, so the other is closed too
    finally:
        sink.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate, with its key in the same directory."""
    directory = tmp_path_factory.mktemp("tls")
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    made += [
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-keyout",
        str(directory / "key.pem"),
        "-out",
        str(directory / "cert.pem"),
    ]
    subprocess.run(made, check=True, capture_output=True)
    return directory / "cert.pem"


@pytest.fixture
def api(prefect: PrefectServer, certificate: Path) -> Iterator[str]:
    terminator = Terminator(prefect.port, certificate, certificate.with_name("key.pem"))
    yield f"https://127.0.0.1:{terminator.port}/api"
    terminator.close()


def test_requests_and_events_come_through_where_the_authority_is_named(api: str, certificate: Path) -> None:
    transport = Prefect3Transport(api, ssl_cert_file=str(certificate))
    backend = Prefect3Backend(transport, WorkPool(transport, "behind TLS"))
    assert "3.8.5" in backend.connect().name
    assert backend.wait_for_wake(0, 5.0).sequence == 1
    assert backend.engine_variables()["PREFECT_API_SSL_CERT_FILE"] == str(certificate)
    backend.close()


def test_a_server_of_an_unknown_authority_is_refused(api: str) -> None:
    transport = Prefect3Transport(api)
    backend = Prefect3Backend(transport, WorkPool(transport, "behind TLS"))
    with pytest.raises(BackendUnavailable, match="certificate"):
        backend.connect()
    backend.close()


def test_a_file_of_certificates_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no file of certificates"):
        Prefect3Transport("https://127.0.0.1/api", ssl_cert_file=str(tmp_path / "none.pem"))
