"""A stand-in for a container engine: speaks Docker's API (version 1.43) on a socket, and runs containers as processes.

A container has the environment of its image and its own, a directory of its own, and nothing else of a container. The
API's shapes are those of the engine's reference (https://docs.docker.com/reference/api/engine/version/v1.43/).
"""

from __future__ import annotations

import json
import re
import secrets
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

_API_VERSION = "1.43"


class EngineError(Exception):
    """A refusal, with its HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(kw_only=True)
class Container:
    """A container: what was asked for, and its process once it was started."""

    id: str
    config: Mapping[str, Any]
    process: subprocess.Popen[bytes] | None = None

    @property
    def env(self) -> dict[str, str]:
        """Its own environment, as the client gave it. A name without a value is not set."""
        pairs = (entry.partition("=") for entry in self.config.get("Env") or ())
        return {name: value for name, has_value, value in pairs if has_value}


@dataclass(kw_only=True)
class ContainerEngine:
    """The engine's containers, and its images: the environment of each by its name."""

    directory: Path
    images: Mapping[str, Mapping[str, str]]
    containers: dict[str, Container] = field(default_factory=dict)
    #: Names of the images that were pulled, in order.
    pulled: list[str] = field(default_factory=list)

    @property
    def address(self) -> str:
        """Address for the engine's clients."""
        return f"unix://{self.directory / 'engine.sock'}"

    def pull(self, name: str, tag: str) -> list[dict[str, str]]:
        """Return the lines that the engine prints while it pulls an image."""
        image = self._image(f"{name}:{tag}" if tag else name)
        self.pulled.append(image)
        return [{"status": f"Pulling from {name}", "id": tag}, {"status": f"Status: Image is up to date for {image}"}]

    def create(self, config: Mapping[str, Any]) -> Container:
        """Make a container; it is not started yet."""
        self._image(config.get("Image", ""))
        if not config.get("Cmd"):
            raise EngineError(400, "No command specified")
        container = Container(id=secrets.token_hex(32), config=config)
        self.containers[container.id] = container
        return container

    def start(self, container_id: str) -> None:
        """Start a container's process."""
        container = self.find(container_id)
        directory = self.directory / container.id[:12]
        directory.mkdir()
        with (directory / "output").open("wb") as output:
            container.process = subprocess.Popen(
                container.config["Cmd"],
                env={**self.images[self._image(container.config["Image"])], **container.env},
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def find(self, container_id: str) -> Container:
        if container_id not in self.containers:
            raise EngineError(404, f"No such container: {container_id}")
        return self.containers[container_id]

    def _image(self, name: str) -> str:
        for image in (name, f"{name}:latest"):
            if image in self.images:
                return image
        raise EngineError(404, f"No such image: {name}")


@contextmanager
def container_engine(directory: Path, images: Mapping[str, Mapping[str, str]]) -> Iterator[ContainerEngine]:
    """Serve the API until the end of the block, and wait then for the containers' processes."""
    directory.mkdir()
    engine = ContainerEngine(directory=directory, images=images)

    class Handler(_Handler):
        the_engine = engine

    with _Server(engine.address.removeprefix("unix://"), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield engine
        finally:
            server.shutdown()
            thread.join()
            for container in engine.containers.values():
                if container.process is not None:
                    container.process.wait(20)


class _Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    the_engine: ContainerEngine

    def _respond(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        path = re.sub(r"^/v\d+\.\d+(?=/)", "", parts.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        try:
            status, answer = self._answer(f"{self.command} {path}", query, json.loads(body) if body else {})
        except EngineError as refusal:
            status, answer = refusal.status, {"message": str(refusal)}
        if isinstance(answer, list):
            self._stream(status, answer)
            return
        sent = b"OK" if answer == "OK" else b"" if answer is None else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Api-Version", _API_VERSION)
        self.send_header("Content-Type", "text/plain" if answer == "OK" else "application/json")
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(sent)

    do_GET = do_HEAD = do_POST = _respond

    def _answer(self, request: str, query: Mapping[str, str], body: Mapping[str, Any]) -> tuple[int, Any]:
        engine = self.the_engine
        if request in ("GET /_ping", "HEAD /_ping"):
            return 200, "OK"
        if request == "GET /version":
            return 200, {"Version": "24.0.0", "ApiVersion": _API_VERSION, "MinAPIVersion": "1.24", "Os": "linux"}
        if request == "POST /images/create":
            return 200, engine.pull(query["fromImage"], query.get("tag", ""))
        if request == "POST /containers/create":
            return 201, {"Id": engine.create(body).id, "Warnings": []}
        if match := re.fullmatch(r"POST /containers/(\w+)/start", request):
            engine.start(match[1])
            return 204, None
        if match := re.fullmatch(r"GET /containers/(\w+)/json", request):
            container = engine.find(match[1])
            running = container.process is not None and container.process.poll() is None
            return 200, {"Id": container.id, "Config": container.config, "State": {"Running": running}}
        raise EngineError(404, f"page not found: {request}")

    def _stream(self, status: int, progress: list[Any]) -> None:
        """Send objects one after the other, each as a chunk of its own."""
        self.send_response(status)
        self.send_header("Api-Version", _API_VERSION)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for value in progress:
            line = json.dumps(value).encode() + b"\r\n"
            self.wfile.write(b"%x\r\n%b\r\n" % (len(line), line))
        self.wfile.write(b"0\r\n\r\n")

    def address_string(self) -> str:
        return "a client of the socket"  # the peer of such a socket has no address

    def log_message(self, *_: Any) -> None:
        pass
