"""The running process, the same in every program: its settings, its log, and how it starts and stops."""
