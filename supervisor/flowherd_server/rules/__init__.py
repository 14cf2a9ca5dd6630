"""The rules of flows (flowherd/flow_rules.py): overlap, catch-up, attempts. The server decides, in transactions."""
