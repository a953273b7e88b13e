"""Reads the size that a request for images asks for."""

import re

_USUAL_PIXELS = 1024 * 1536
_SIZE = re.compile(r"\s*\+?([0-9]{1,5})\s*[xX*]\s*\+?([0-9]{1,5})\s*")


def scale_of(size: object) -> float | None:
    """Return how many times the pixels of a usual image a size has, at least 1; None for a size of unknown form.

    Of a list, as forms have it where a field stands twice, the largest counts.
    """
    if isinstance(size, list):
        scales = [None if isinstance(one, list) else scale_of(one) for one in size]
        return None if None in scales else max((scale for scale in scales if scale is not None), default=1)
    if size is None or (isinstance(size, str) and size.strip().lower() in {"", "auto"}):
        return 1
    found = _SIZE.fullmatch(size) if isinstance(size, str) else None
    return max(int(found[1]) * int(found[2]) / _USUAL_PIXELS, 1) if found else None
