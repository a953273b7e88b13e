"""Load, and how much of the machine it takes."""
