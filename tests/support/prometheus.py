"""A real Prometheus with the configuration of conf/prometheus, which scrapes what a test names."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from tests.support.debian_programs import required_program
from tests.support.leftovers import current_mark
from tests.support.ports import free_port
from tests.support.waiting import wait_until

CONF = Path(__file__).resolve().parents[2] / "conf"
RULES = CONF / "prometheus" / "flowherd.rules.yml"
_EXAMPLE = CONF / "prometheus" / "prometheus.yml"


class Prometheus:
    """One running Prometheus."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str, **parameters: str) -> Any:
        """Return the data of an answer of its API; an error of a query is one of the test."""
        answer = requests.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=10).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression: str) -> list[Any]:
        """Return what an expression is now: a list of series."""
        return list(self.get("query", query=expression)["result"])

    def number(self, expression: str) -> float | None:
        """Return the value of an expression with one series; None if there is none."""
        found = self.query(expression)
        return float(found[0]["value"][1]) if found else None

    def increase(self, selector: str) -> float:
        """Return by how much the counters have grown in the last minutes: a value below the one before begins at 0.

        Without the extrapolation of increase(), so that it is an exact number; the first value counts as well.
        """
        total = 0.0
        for series in self.query(f"{selector}[5m]"):
            before = 0.0
            for _, text in series["values"]:
                value = float(text)
                total += value if value < before else value - before
                before = value
        return total


def configuration(directory: Path, server: str, agent: str) -> Path:
    """Write the example configuration with these addresses, HOST:PORT, and times for a test; return its path."""
    text = _EXAMPLE.read_text(encoding="utf-8")
    for old, new in (("127.0.0.1:4200", server), ("127.0.0.1:8080", agent), ("scrape_interval: 15s", _INTERVALS)):
        assert text.count(old) == 1, f"{old} in {_EXAMPLE}"
        text = text.replace(old, new)
    (directory / RULES.name).write_text(RULES.read_text(encoding="utf-8"), encoding="utf-8")
    path = directory / _EXAMPLE.name
    path.write_text(text, encoding="utf-8")
    return path


_INTERVALS = "scrape_interval: 100ms\n  scrape_timeout: 100ms\n  evaluation_interval: 200ms"


@contextmanager
def running_prometheus(configuration: Path) -> Iterator[Prometheus]:
    """Start Prometheus; it has ended at the end of the block. Skips the test if it is not installed."""
    program, port = required_program("prometheus", "prometheus"), free_port()
    data, log = configuration.with_name("data"), configuration.with_name("prometheus.log")
    options = [
        f"--config.file={configuration}",
        f"--storage.tsdb.path={data}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [program, *options],
            stdin=subprocess.DEVNULL,
            stdout=stderr,
            stderr=stderr,
            env={**os.environ, **current_mark()},
        )
    found = Prometheus(f"http://127.0.0.1:{port}")

    def is_ready() -> bool:
        assert process.poll() is None, log.read_text(encoding="utf-8")
        try:
            return requests.get(f"{found.url}/-/ready", timeout=5).ok
        except requests.ConnectionError:
            return False

    try:
        wait_until(is_ready, what=lambda: log.read_text(encoding="utf-8"))
        yield found
    finally:
        process.kill()
        process.wait()


def promtool(*arguments: str | Path, given: str = "") -> str:
    """Run promtool and return what it prints; it must find nothing wrong. Skips the test if it is not installed."""
    program = required_program("promtool", "prometheus")
    done = subprocess.run([program, *arguments], input=given, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def names_in(expression: str) -> set[str]:
    """Return the names of flowherd's series in a query."""
    return set(re.findall(r"\b(?:flowherd|process)_[a-z0-9_]+\b", expression))
