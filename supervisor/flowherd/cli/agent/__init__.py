"""Commands that start, inspect and steer agents, and the embedded server beside them."""
