"""Lines: from journals to log lines, onto the terminal, and the agent's own log."""
