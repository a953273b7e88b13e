"""Estimates: tokens counted from the texts of a request and its answer, where the upstream told no usage."""
