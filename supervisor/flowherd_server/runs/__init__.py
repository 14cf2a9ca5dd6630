"""Flow runs and task runs in the database: creating them, changing their states, rescuing dead ones, waking agents."""
