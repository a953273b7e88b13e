"""Load, and its use of the machine."""
