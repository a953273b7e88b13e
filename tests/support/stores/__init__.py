"""Stores, and the databases that they live in."""
