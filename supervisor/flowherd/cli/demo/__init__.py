"""`flowherd demo`: a server, an agent and example flows in a temporary directory."""
