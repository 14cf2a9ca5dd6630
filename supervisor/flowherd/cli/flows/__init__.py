"""Commands that register flows."""
