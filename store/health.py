"""The answer to `/health`, the same on both ports: the process is alive, whatever the store and the upstream do."""

from store import clock
from store.version import __version__


def report() -> dict[str, str]:
    """Return the contract's `HealthResponse`."""
    return {"status": "ok", "version": __version__, "timestamp": clock.to_rfc3339(clock.now())}
