"""`flowherd explain`: why a run waits, what happened to it, why it ended; told by flowherd/story."""
