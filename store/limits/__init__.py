"""Limits of tokens and projects: how they are written, and what has been used of them."""
