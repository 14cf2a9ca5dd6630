"""What a person asks of a server of the Prefect GraphQL dialect, as opposed to what an agent does there.

client       flowherd.Client, what programs use; connect finds its server
user_client  one connection of a person, with all that follows
flows        projects and registered flows
flow_list    registered flows with their last runs, next run and schedule
registration Client.register, from new_flow; the document of a flow: flow_document, flow_schedule, signature
removal      taking flows away
runs         flow runs: create and find
run_list     lists of runs: all that match a filter (run_filter), or what runs, is due, failed lately and is next
run_details  processes, curve and account of one run
run_changes  cancel, delete and repeat runs, one or many
lookup       the flow or the run that a person means
run_end      the end of one run; ends: those of many
agents       the agents that the server knows, and which of them would take a run
agent_orders what agents are asked over the server: pause, resume, drain, restart
logs         the log of a run, read as it grows
history      the states that a run was in, and flowherd's own lines about it
queries      the GraphQL texts that the modules above have in common

Written for any server of the dialect; extensions of flowherd's own server are used only after it has identified itself.
"""
