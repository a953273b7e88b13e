"""Trusts additional certificate authorities for upstreams."""

import functools
from collections.abc import Sequence
from typing import Any

from mitmproxy.net import tls
from OpenSSL import SSL, crypto

from addon.replacing import replace

_create = tls.create_proxy_server_context.__wrapped__
"""mitmproxy's function without its cache, whose contexts may be in use and trust the usual authorities alone."""


def install(trusted: Sequence[bytes]) -> None:
    """Have each TLS context for upstreams trust these certificates (DER) too.

    REPLACES: `create_proxy_server_context` in mitmproxy.net.tls, by a function that adds to what it returns.
    WHY: mitmproxy's option replaces the usual authorities instead of adding to them; that is intended,
    https://github.com/mitmproxy/mitmproxy/issues/7096.
    REMOVE WHEN: https://github.com/mitmproxy/mitmproxy/issues/5741 brings an option that adds authorities.
    """
    certificates = [crypto.load_certificate(crypto.FILETYPE_ASN1, der) for der in trusted]

    @functools.cache
    def create(**how: Any) -> SSL.Context:
        context: SSL.Context = _create(**how)
        store = context.get_cert_store()
        if store is not None:
            for certificate in certificates:
                store.add_cert(certificate)
        return context

    replace(tls, "create_proxy_server_context", create)
