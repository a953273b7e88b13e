"""Encryption at rest: the key ring, the vault that seals API keys, and the files that hold keys."""
