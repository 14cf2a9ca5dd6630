"""Errors of the child side that somebody acts on."""


class SpecError(ValueError):
    """spec.json does not say what it must; the run cannot be prepared at all."""


class NotStarted(Exception):
    """The user's code could not be reached; the text is the evidence in exit.json."""
