"""The supervisor of the processes that `llm-proxy start` runs.

services     the processes that a command starts, the `ports` that they serve, and what the start prints
supervisor   keeps the services running until a signal comes
worker_slot  keeps one process running, and replaces it without downtime; each one is a `child`
"""
