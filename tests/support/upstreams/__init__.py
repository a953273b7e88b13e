"""Upstreams that do what a test says, and the answers that they give."""
