"""The kinds of errors that the code has."""

from store.errors import GatewayError


def every_kind(kind: type[GatewayError]) -> set[type[GatewayError]]:
    return {kind}.union(*(every_kind(child) for child in kind.__subclasses__()))
