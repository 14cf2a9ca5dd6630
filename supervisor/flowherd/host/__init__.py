"""The host's part: keep the flow runs of this machine, from the written intent to the reported end."""
