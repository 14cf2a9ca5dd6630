"""Beside the flows."""

VALUE = "of the helper"
