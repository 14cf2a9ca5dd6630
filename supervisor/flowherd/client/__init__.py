"""What a person asks of a server: register flows, start runs, read their logs and history, cancel."""
