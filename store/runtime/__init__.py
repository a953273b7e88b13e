"""Parts of every process: its settings, its log and the masking of secrets in it, its start and stop."""
