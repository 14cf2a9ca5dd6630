"""What is told of runs, the same in the command line, on the server's page and wherever else runs are listed.

order  which runs come first: running, due, failed lately, next
"""
