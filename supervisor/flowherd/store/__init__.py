"""What the agent keeps on disk: its state directory, and one directory a run (docs/design.md, section 5)."""
