"""Reads a request's models: by its head where that tells, else by its body.

The head alone tells for most: for what generates nothing, and for what cannot be judged whatever its body says.
"""

import itertools
from collections.abc import Iterable, Iterator

from addon.demand import of_body as of_fields
from addon.demand import why_unbounded
from addon.protocol.json_fields import fields
from addon.protocol.whole_coding import WholeDecoder
from addon.reading.doubt import Doubt
from addon.reading.generating import How, how, only_reads, target_of
from addon.reading.head import Head, Media, check_headers, check_stored, model_in_query, overrides_method
from addon.reading.model_paths import check_path
from addon.reading.names import MODEL, checked_model
from addon.reading.places import models_of
from addon.reading.strict_form import read_form
from addon.reading.strict_json import parsed
from addon.remembered import remembered
from store.errors import RequestTooLarge
from store.request import NOTHING, Demand, Reading

_ONLY_STORED = frozenset({"items", "metadata"})
"""The fields of a conversation that OpenAI stores; Mistral generates with others."""

_STORED = (
    "This endpoint generates with a model that only something stored upstream names, so that it cannot be judged. Use "
    "an endpoint that names its model in the request."
)

_LIKE_JSON = b"{\x00\t\n\r \xef\xfe\xff"
"""First bytes of a JSON object in any charset. An upstream that ignores content codings would read such a body raw.

A `[` is none of them: much that is compressed with Brotli begins so, and a list names no model.
"""


def of_head(head: Head) -> Reading | None:
    """Return the models that a request asks for, where its head alone tells; None where its body has to be read."""
    try:
        return _of_path(head.path) if head.is_usual else _of_head(head)
    except Doubt as doubt:
        return Reading(doubt=str(doubt))


@remembered
def _of_path(path: bytes) -> Reading | None:
    """Return what `of_head` does for a POST of JSON without a query, by its path."""
    return _of_head(Head("POST", path, ((b"content-type", b"application/json"),)))


def of_body(head: Head, pieces: Iterable[bytes], most: int, *, with_demand: bool = False) -> Reading:
    """Return the models that a request asks for. The pieces are its body as it was sent, in pieces of any size.

    Call `of_head` first: it checks the head, and this is for the requests of which it returns None.
    `with_demand`: also the most that it may use.
    Of a body of any size, only a few MiB are held at once. Raises RequestTooLarge for one that decodes to more than
    `most` bytes.
    """
    try:
        return _of_body(head, pieces, most, with_demand=with_demand)
    except Doubt as doubt:
        return Reading(doubt=str(doubt))


def _of_head(head: Head) -> Reading | None:
    check_path(head.path)
    if only_reads(head):
        if overrides_method(head):
            raise Doubt("A header replaces the method of the request. Send the method itself.")
        return NOTHING
    target = target_of(head.path)
    match how(head, target):
        case How.NOTHING if not head.models:
            return NOTHING
        case How.NOTHING:
            raise Doubt("The query names a model where nothing is generated with it. Leave it out.")
        case How.STORED:
            why = why_unbounded(target.endpoint, {}, ()) or "Only something that is stored upstream tells what it uses."
            return Reading(doubt=_STORED, demand=Demand(unbounded=why))
        case How.UNKNOWN:
            raise Doubt("It is not known how this endpoint names its model. Use one that names it in the request.")
        case How.IN_QUERY:
            return _of_opening(head)
    check_headers(head)
    check_stored(head)
    _ = head.models, head.media, head.coding  # they raise what they doubt
    return None


def _of_opening(head: Head) -> Reading:
    """Return the model that the query names for a WebSocket."""
    check_headers(head)
    check_stored(head)
    models = head.models
    if model_in_query(head) is None:
        raise Doubt("The WebSocket does not name its model. Open it with 'model=NAME' in the query.")
    return Reading(models, demand=Demand())  # its responses have theirs


def _of_body(head: Head, pieces: Iterable[bytes], most: int, *, with_demand: bool) -> Reading:
    target = target_of(head.path)
    named = head.models
    place = how(head, target)
    if place is How.IN_PATH:
        named = (checked_model(target.model or ""), *named)
    media, boundary = head.media
    if media is Media.FORM:
        if head.coding:
            raise Doubt("The form is compressed, and upstreams differ on which bytes they read. Send it as it is.")
        form = read_form(_bounded(pieces, most), boundary)
        demand = of_fields(target.endpoint, {**form.fields, MODEL: form.model}) if with_demand else None
        return Reading(_each_once(form.model, *named), demand=demand)
    body = _decoded(pieces, head.coding, most)
    if place is not How.NAMED or media is Media.NONE:
        body, is_empty = _looked_into(body)
        if place is How.CONVERSATION and is_empty:
            return NOTHING
        if media is Media.NONE and not (place is How.IN_PATH and is_empty):
            raise Doubt("The body has no Content-Type. Send 'Content-Type: application/json'.")
        if place is How.IN_PATH and is_empty:
            return Reading(named)
    value = parsed(body, counts=with_demand)
    if place is How.CONVERSATION and isinstance(value, dict) and value.keys() <= _ONLY_STORED:
        return NOTHING
    models = models_of(value, has_to_name=place is not How.IN_PATH)
    demand = of_fields(target.endpoint, fields(value)) if with_demand else None
    return Reading(_each_once(*models, *named) if named else models, demand=demand)


def _each_once(*models: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(models))


def _looked_into(pieces: Iterator[bytes]) -> tuple[Iterator[bytes], bool]:
    """Return the pieces, and whether there is nothing in them."""
    first = next(filter(None, pieces), b"")
    return itertools.chain((first,), pieces), not first


def _decoded(pieces: Iterable[bytes], coding: str | None, most: int) -> Iterator[bytes]:
    """Return the decoded body. It raises Doubt where it is not exactly one body of this coding."""
    return _bounded(pieces, most) if coding is None else _uncompressed(pieces, coding, most)


def _uncompressed(pieces: Iterable[bytes], coding: str, most: int) -> Iterator[bytes]:
    decoder = WholeDecoder(coding)
    try:
        yield from _bounded((step for piece in _not_like_json(pieces) for step in decoder.feed(piece)), most)
        decoder.finish()
    except ValueError:
        raise Doubt("The body is not exactly one body of its Content-Encoding. Send it without one.") from None


def _not_like_json(pieces: Iterable[bytes]) -> Iterator[bytes]:
    for number, piece in enumerate(filter(None, pieces)):
        if not number and piece[:1] in {bytes([byte]) for byte in _LIKE_JSON}:
            raise Doubt("The compressed body looks like JSON to an upstream that does not decode it. Send it as it is.")
        yield piece


def _bounded(pieces: Iterable[bytes], most: int) -> Iterator[bytes]:
    """Yield the pieces. Raises RequestTooLarge as soon as they are more than `most` bytes."""
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > most:
            raise RequestTooLarge
        yield piece
