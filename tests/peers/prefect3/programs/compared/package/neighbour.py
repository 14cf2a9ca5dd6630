"""Beside the flow in its package."""

VALUE = "of the neighbour"
