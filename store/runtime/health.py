"""The responses to `/health` and `/ready`, the same on both ports."""

from store import clock
from store.version import __version__


def alive() -> dict[str, str]:
    """Return the contract's `HealthResponse`: the process is alive, even if the store or the upstream is not."""
    return _report("ok")


def ready() -> dict[str, str]:
    """Return the contract's `ReadyResponse`, for a store that has just been reached."""
    return _report("ready")


def _report(status: str) -> dict[str, str]:
    return {"status": status, "version": __version__, "timestamp": clock.to_rfc3339(clock.now())}
