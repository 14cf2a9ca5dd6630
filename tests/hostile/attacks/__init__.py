"""Attacks of a flow on what is not its own, as a program that every interpreter from 3.7 on can run.

`registry.py` has the attacks and runs them; each file beside it has those of one kind. Nothing here judges: an attack
returns what it has got hold of, and tests/hostile/attack_scene.py, outside the run, decides whether that is true.
"""
