"""The agent's own pages: its host, its runs and each of them, from memory and run directories alone.

So they are there while the backend is away, and beside a work pool of Prefect 3. `routes` lists them.
"""
