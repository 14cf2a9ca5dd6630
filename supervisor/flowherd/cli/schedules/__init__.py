"""`flowherd schedule`: the schedules of flows."""
