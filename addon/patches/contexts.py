"""Copies a layer's context without making a connection for it first, which mitmproxy throws away; two a request."""

from mitmproxy.proxy.context import Context


def _fork(self: Context) -> Context:
    """Return a copy with a stack of layers of its own."""
    copied = object.__new__(type(self))
    copied.client, copied.server, copied.options = self.client, self.server, self.options
    copied.layers = self.layers.copy()
    return copied


def install() -> None:
    """Have all contexts of the process copied this way."""
    Context.fork = _fork  # type: ignore[method-assign]
