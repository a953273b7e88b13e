"""Policies: the models, endpoints and client addresses that a token or a project allows; no SQL."""
