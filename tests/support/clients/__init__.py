"""Clients of the gateway and of mitmweb."""
