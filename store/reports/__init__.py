"""Reports: usage by group and time, and the list of single requests."""
