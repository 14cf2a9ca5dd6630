"""A private certificate authority, with certificates of a server on this host and of a client, made by openssl."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
_AUTHORITY = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign"]


@dataclass(frozen=True)
class Certificates:
    """Files in PEM format; each certificate of server and client is followed by its key."""

    authority: Path
    server: Path
    client: Path
    #: The client's certificate and key in files of their own.
    client_cert: Path
    client_key: Path


def make_certificates(directory: Path) -> Certificates:
    """Make the files in a directory."""
    _openssl(directory, "req", "-x509", *_KEY, "-days", "2", "-subj", "/CN=Firm", *_AUTHORITY, *_out("authority"))
    (directory / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1\n")
    for name in ("server", "client"):
        _openssl(directory, "req", *_KEY, "-subj", f"/CN={name}", *_out(name))
        signed_by = ["-CA", "authority.pem", "-CAkey", "authority.key", "-CAcreateserial", "-days", "2"]
        _openssl(
            directory, "x509", "-req", "-in", f"{name}.pem", *signed_by, "-extfile", "names", "-out", f"{name}.cert"
        )
        both = (directory / f"{name}.cert").read_text() + (directory / f"{name}.key").read_text()
        (directory / f"{name}.pem").write_text(both)
    return Certificates(
        directory / "authority.pem",
        directory / "server.pem",
        directory / "client.pem",
        directory / "client.cert",
        directory / "client.key",
    )


def _out(name: str) -> list[str]:
    return ["-keyout", f"{name}.key", "-out", f"{name}.pem"]


def _openssl(directory: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)
