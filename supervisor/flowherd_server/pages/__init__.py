"""The pages of the server: one module a page and a kind of action.

routes.py lists them; frame.py says how to add a page, actions.py how to add an action.
"""
