"""Stores, and their databases."""
