"""Kinds of flow run: what each needs in its spec, its environment and its interpreter."""
