"""The supervisor of the processes that `llm-proxy start` runs.

services     the services that a command starts, the `ports` that they serve, and the banner
preparation  the process that prepares the store before they start
supervisor   runs the preparation, then the services until a signal comes
worker_slot  keeps one process running, and replaces it without downtime; each process is a `child`
"""
