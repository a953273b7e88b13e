"""The gateway under test: its processes, or a gateway in this process, and its input."""
