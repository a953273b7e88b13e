"""Trusts more authorities than mitmproxy does for upstreams; its own options would put others in their place."""

import functools
from collections.abc import Sequence
from typing import Any

from mitmproxy.net import tls
from OpenSSL import SSL, crypto

_create = tls.create_proxy_server_context.__wrapped__
"""mitmproxy's own, without its cache: what is in there may be in use, and trusts the usual authorities alone."""


def install(trusted: Sequence[bytes]) -> None:
    """Have each context of TLS towards an upstream trust these certificates too, given as DER."""
    certificates = [crypto.load_certificate(crypto.FILETYPE_ASN1, der) for der in trusted]

    @functools.cache
    def create(**how: Any) -> SSL.Context:
        context: SSL.Context = _create(**how)
        store = context.get_cert_store()
        if store is not None:
            for certificate in certificates:
                store.add_cert(certificate)
        return context

    tls.create_proxy_server_context = create  # it has no other place to say so
