"""Prefect 3's REST API, as a worker of a process work pool speaks it. Facts and reasons: docs/prefect3.md."""
