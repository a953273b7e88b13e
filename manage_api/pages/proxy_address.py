"""The address of the proxy, as far as the pages can know it: they are on another port."""

from urllib.parse import urlsplit

import flask

from manage_api.pages.gate import Gate


def base_url(gate: Gate, port: int) -> str:
    """Return the base URL for clients: the host by which this page was reached, with the proxy's port.

    Where a load balancer is in front of one of them, it is a guess: pages say so. By https, a balancer is, on its
    usual port.
    """
    host = urlsplit(f"//{flask.request.host}").hostname or "localhost"
    host = f"[{host}]" if ":" in host else host
    return f"https://{host}/v1" if gate.is_https() else f"http://{host}:{port}/v1"
