"""Models that stand in a path, and the paths that upstreams read alike."""

import re
from urllib.parse import unquote_to_bytes

from addon.reading.doubt import Doubt
from addon.remembered import remembered

_PRINTABLE = re.compile(rb"[!-~]*")
_PLAIN = re.compile(rb"/v1(?:/[A-Za-z0-9_.:~@-]+)+/?")
_CLIMBS = re.compile(rb"/\.{1,2}(?:/|\Z)")

# https://ai.google.dev/api/generate-content (a verb after the model) and
# https://replicate.com/docs/reference/http#models.predictions.create
_NAMING = re.compile(
    r"/v1/(?:engines|deployments)/(?P<engine>[^/:]+)/[^:]+"
    r"|/v1/models/(?P<google>[^/:]+):[A-Za-z]+"
    r"|/v1/models/(?P<replicate>[^/:]+/[^/:]+)/predictions"
)


@remembered
def check_path(path: bytes) -> None:
    """Raise Doubt for a path that does not decode to printable ASCII at once: upstreams differ on others."""
    decoded = unquote_to_bytes(path)
    if b"%" in decoded or not _PRINTABLE.fullmatch(decoded):
        raise Doubt("The path is encoded twice, or holds other characters than ASCII's. Send it plainly.")


def plain_path(path: bytes) -> str:
    """Return a path in which nothing is encoded, without a slash at its end. Raises Doubt for any other."""
    if not _PLAIN.fullmatch(path) or _CLIMBS.search(path):
        raise Doubt("The path holds characters that upstreams read differently. Send it without encoding them.")
    return path.decode().rstrip("/")


def model_named_by(path: str) -> str | None:
    """Return the model that a plain path to generate names; None without one."""
    found = _NAMING.fullmatch(path)
    return found[found.lastgroup or 0] if found else None
