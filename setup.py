"""Packaging of flowherd: two source roots, supervisor/ (the parent side) and runners/ (the child side).

Neither root is a package: a package named `supervisor` here would shadow supervisord's own from the project's root.

Old Pythons must be able to read this file: pip then says which Python is needed (python_requires).
"""

from __future__ import annotations

import sys
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent


def version() -> str:
    """The one place that holds the version is flowherd/__init__.py."""
    text = (HERE / "supervisor" / "flowherd" / "__init__.py").read_text(encoding="utf-8")
    return next(line.split('"')[1] for line in text.splitlines() if line.startswith("__version__"))


def conf_files() -> list[str]:
    """Everything under conf/, as the package data that it becomes: flowherd.conf."""
    conf = HERE / "conf"
    return [
        str(path.relative_to(conf))
        for path in sorted(conf.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    ]


if sys.platform != "linux":
    sys.exit(f"flowherd needs Linux and Python 3.10 or newer; this is {sys.platform}")
setup(
    name="flowherd",
    version=version(),
    description="A supervisor agent for one host: claims flow runs, forks one isolated runner per run, loses none.",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    classifiers=["Operating System :: POSIX :: Linux", "Programming Language :: Python :: 3", "Typing :: Typed"],
    python_requires=">=3.10",
    packages=[*find_packages("supervisor"), *find_packages("runners"), "flowherd.conf"],
    package_dir={
        "flowherd": "supervisor/flowherd",
        "flowherd_server": "supervisor/flowherd_server",
        "flowherd_supervisord": "supervisor/flowherd_supervisord",
        "flowherd.conf": "conf",
        "flowherd_runner": "runners/flowherd_runner",
    },
    package_data={
        "flowherd": ["py.typed", "web/templates/*", "web/static/*", "agent/pages/templates/*"],
        "flowherd_server": ["py.typed", "pages/templates/*"],
        "flowherd.conf": conf_files(),
    },
    install_requires=[
        # The lowest versions with which everything works: python -m tests.lowest_versions
        "psutil>=5.9.6",
        "requests>=2.31",
        "supervisor>=4.3",
        "loguru>=0.7",
        "typer>=0.18",
        "rich>=13.3.3",
        "anyio>=4",
        "starlette>=0.37",
        "jinja2>=3.1",
        "uvicorn>=0.29",
        "graphql-core>=3.3",
        "sqlalchemy>=2.0.31",
        "textual>=4",
        "prometheus-client>=0.20",
        "croniter>=6.1",
        "python-dateutil>=2.8",
        "websockets>=15",
        "tzdata",
        "tomli>=2.0; python_version < '3.11'",
    ],
    extras_require={
        # Traces (traces.endpoint): flowherd/agent/run_traces.py
        "otel": ["opentelemetry-sdk>=1.27", "opentelemetry-exporter-otlp-proto-http>=1.27"],
        # Channels of notifications that are URLs of apprise: flowherd/notify/send_by_apprise.py
        "notify": ["apprise>=1.9"],
        "test": [
            "pytest>=8",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.7",
            "hypothesis>=6.100",
            "ruff>=0.6",
            "mypy>=1.10",
            "types-psutil",
            "types-requests",
            "build>=1.2",
            "docker>=7",
            "playwright>=1.49",
            "axe-playwright-python>=0.1.4",
            "opentelemetry-sdk>=1.27",
            "opentelemetry-exporter-otlp-proto-http>=1.27",
        ],
        # The site: docs/conf.py
        "docs": ["sphinx>=8.1", "myst-parser>=4", "furo>=2025.9.25"],
    },
    entry_points={"console_scripts": ["flowherd = flowherd.cli.main:main"]},
)
