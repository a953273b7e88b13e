"""The exception with which a reader gives up: what it reads could be taken in two ways."""


class Doubt(Exception):
    """A request cannot be read with certainty. Its text is for the client: why, and what to do."""
