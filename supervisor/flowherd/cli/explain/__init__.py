"""`flowherd explain`: why a run waits, and why it ended."""
