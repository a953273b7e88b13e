"""The gateway under test: its processes, or a gateway in this process, and what it is given."""
