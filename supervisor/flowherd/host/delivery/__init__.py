"""What runs owe the backend: log lines, state reports, heartbeats, in one thread and in order."""
