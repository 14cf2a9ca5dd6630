"""What the agent keeps on disk: its state directory, with one directory for each run (docs/design.md, section 5)."""
