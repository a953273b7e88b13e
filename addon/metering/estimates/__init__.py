"""Estimates: tokens counted from the texts of a request and its response, where the upstream reported no usage."""
