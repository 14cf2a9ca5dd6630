"""The error by which a kind reports that the user's code could not be reached."""


class NotStarted(Exception):
    """The user's code could not be reached; the text is the evidence in exit.json."""
