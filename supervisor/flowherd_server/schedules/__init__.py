"""Schedules: when they fire, and the runs made for them ahead of time."""
