"""Schedules: when they fire, and the flow runs that are created for them ahead of time."""
