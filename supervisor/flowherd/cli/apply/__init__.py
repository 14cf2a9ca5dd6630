"""`flowherd apply`: a project file, flows.toml, that declares flows, and what it changes.

docs/reference/flows-toml.md has the keys of the file.
"""
