"""Flow runs and task runs in the database: creation, states, rescue, wake-ups of waiting agents."""
