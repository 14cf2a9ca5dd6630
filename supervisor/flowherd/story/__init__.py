"""What people read about runs and agents, the same in the command line and on the server's page.

records       what a server has of a run and of its agents, as plain values
verdict       one sentence on how a run is or how it ended, with what it rests on
timeline      what happened to it, in order
waiting       why it has not started, or which agent has it
asked_by      who created a run, cancelled it, or switched a schedule
account       what its end carries: evidence, figures, dated events, a thinned curve, the last processes
tones         which colour and word a state has
live_news     what the server asks of an agent beside runs
order         which runs come first: running, due, failed lately, next
agent_report  what an agent reports of itself
live          what an agent reports of one running run
stuck         whether a running run is stuck
marks         what agents note in the states that they report
sent_values   reading of what another process has sent
usual         how long the runs of a flow usually take
"""
