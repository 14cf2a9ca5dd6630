"""`flowherd top`: the runs, live, on a whole terminal.

Everything that is shown is drawn by plain functions, from values and a size to lines; Textual brings the lines to the
terminal and the keys to us, and is imported by `app` and what only `app` imports.

top_command   the command, and which source it asks
picture       what is known at one moment: runs, agents, host
sources       what a source can be asked; server_source: a server, agents_source: the agents of this host
spans         lines of styled text: cutting, bars, sparklines, sizes
state_marks   the sign, the word and the style of a run's state
attention     what needs attention
columns       which columns fit, and the line of a run
list_view     the main screen; beside_view: the current run beside or below the list
run_view      one run: log_pane, story, processes, parameters
agents_view   the agents; dialogs: the question before an action, and the keys
terms         what can be written into the filter; folding: long lines, and colours of logs; sorting: other orders
app           the program: screens, keys, canvas, asking in the background (asker)
"""
