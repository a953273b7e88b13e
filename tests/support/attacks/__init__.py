"""Attacks: requests that hide others, paths that hide reserved endpoints, secrets that must not show."""
