"""Schedules against a reckoning of their own."""
