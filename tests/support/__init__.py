"""Shared parts of the tests: real processes, real upstreams."""
