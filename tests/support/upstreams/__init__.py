"""Upstreams that a test controls, and the responses that they give."""
