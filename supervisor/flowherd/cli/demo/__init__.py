"""`flowherd demo`: a server, an agent and example flows in a temporary directory.

demo_flows  the flows, and how each must end
demo_stage  brings server and agent up, runs the flows, ends everything
demo_view   what is shown meanwhile
"""
