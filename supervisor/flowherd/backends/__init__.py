"""The backends that an agent can take flow runs from: one protocol, one sub-package for each server API."""
