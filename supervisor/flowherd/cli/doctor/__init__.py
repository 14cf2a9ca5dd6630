"""The checks of `flowherd doctor`: each looks at one thing and says how it is and what to do about it.

finding    what a check says
backend    the API: there, quick, its token, its clock
host       disk, limits, what the kernel offers
agent      the agent of these settings: its directory, its supervisor, its fork server, what earlier runs left
"""
