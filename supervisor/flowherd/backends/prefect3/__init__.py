"""Prefect 3's REST API, used as a worker of one process work pool uses it. Facts and reasons: docs/prefect3.md."""
