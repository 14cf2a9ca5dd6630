"""Installed packages for tests, as an installer leaves them, in a directory that is put on the import path."""

from __future__ import annotations

from pathlib import Path


def install_backend(site: Path, name: str, target: str, module: str, source: str, *, package: str = "") -> None:
    """Write a module and an entry point for one of its functions into `site`; `package` is `name` by default."""
    site.mkdir(exist_ok=True)
    (site / f"{module}.py").write_text(source)
    package = package or name
    metadata = site / f"{package.replace('-', '_')}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[flowherd.backends]\n{name} = {target}\n")
