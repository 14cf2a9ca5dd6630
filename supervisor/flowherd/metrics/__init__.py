"""Metrics of agent and server, by Prometheus's conventions.

families    the one list of what is measured
tally       counters and histograms of one process, in memory
common      gauges that agent and server have both: the version, the process, the host
programs    what is counted of the programs of supervisord
exposition  the text that Prometheus reads
"""
