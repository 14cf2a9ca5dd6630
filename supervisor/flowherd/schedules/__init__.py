"""Cron expressions in a time zone: what they mean, when they fire, how they read in words. Shared by server and CLI.

Pure and quick to import: no module here knows a server or a database. docs/reference/schedules.md has the rules.
"""
