"""Processes as the agent meets them: fork servers that it starts, runners that it watches, trees that it ends."""
