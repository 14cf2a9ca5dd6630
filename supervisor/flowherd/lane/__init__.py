"""The lane: what flowherd's own programs say to flowherd's own server over a Unix socket (docs/reference/lane.md).

`frames` has the bytes, `messages` the words that both sides know, `client` a blocking connection.
"""
