"""What keeps a run apart from all that is not its own: namespaces, mounts, Landlock, seccomp, capabilities.

enclosure.py puts them together in the flow process; namespaces.py has what the runner does before it forks that.
contract/isolation.py describes what is asked for and what is said to be in force.
"""
