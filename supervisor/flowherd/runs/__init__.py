"""The runs that live here: each one's owner, the watch over their processes, the delivery of what they have to tell."""
