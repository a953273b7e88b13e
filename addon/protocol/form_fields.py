"""Reads the field `model` of a multipart form (RFC 7578) of which only the head and the tail are kept."""

import re

from addon.protocol.head_and_tail import HeadAndTail

_MODEL = re.compile(rb'[;\s]name="?model"?\s*(?:;|\r\n|$)', re.IGNORECASE)
_BOUNDARY = re.compile(r'boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)


def model_in_form(form: HeadAndTail, content_type: str) -> str | None:
    """Return the field `model` where it stands whole near the form's start or its end."""
    found = _BOUNDARY.search(content_type)
    if found is None:
        return None
    boundary = b"--" + (found[1] or found[2]).encode(errors="replace")
    for edge in (form.start(), form.end()):
        for part in edge.split(boundary)[1:-1]:
            head, _, value = part.partition(b"\r\n\r\n")
            if _MODEL.search(head):
                return value.removesuffix(b"\r\n").decode(errors="replace")
    return None
