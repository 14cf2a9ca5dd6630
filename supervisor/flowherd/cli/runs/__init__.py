"""Commands that start, list, follow and cancel flow runs."""
