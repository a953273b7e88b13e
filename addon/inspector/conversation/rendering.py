"""Writes the text of a body by the format of its endpoint: a request's, a response's or an event stream's."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from addon.inspector.conversation import chat, embeddings, responses
from addon.inspector.conversation.layout import Block, error_block, lay_out
from addon.protocol.endpoints import Kind, endpoint_of, shape_of
from addon.protocol.json_fields import Fields, parse
from addon.protocol.sse import Decoder

type _Blocks = Callable[[Fields], list[Block] | None]


class Format(NamedTuple):
    """The functions that read the bodies of one kind of endpoint."""

    request_blocks: _Blocks
    response_blocks: _Blocks
    assembled: Callable[[Iterable[Fields]], Fields] | None
    """Joins the events of a stream to one response; None where the endpoint has no streams."""


_FORMATS = {
    Kind.CHAT: Format(chat.request_blocks, chat.response_blocks, chat.assembled),
    Kind.RESPONSE: Format(responses.request_blocks, responses.response_blocks, responses.assembled),
    Kind.EMBEDDINGS: Format(embeddings.request_blocks, embeddings.response_blocks, None),
}


def format_of(target: str) -> Format | None:
    """Return the format of a request's target; None for an endpoint that is not shown as text."""
    return _FORMATS.get(shape_of(endpoint_of(target.partition("?")[0])).kind)


def request_text(form: Format, data: bytes, *, cut: bool) -> str | None:
    """Return the text of a request; None where it is not one. With `cut`, the request may end anywhere."""
    return _text(form.request_blocks(parse(data, cut=cut)))


def response_text(form: Format, data: bytes, *, cut: bool) -> str | None:
    """Return the text of a response or an error; None where it is neither."""
    return _response_text(form, parse(data, cut=cut))


def stream_text(form: Format, data: bytes) -> str | None:
    """Return the text of the response that the events of a stream make so far; None for other events."""
    return _response_text(form, form.assembled(events_of(data))) if form.assembled else None


def events_of(data: bytes) -> Iterator[Fields]:
    """Yield the JSON objects in the events of a stream."""
    return filter(None, (parse(event.data) for event in Decoder().feed(data)))


def _response_text(form: Format, body: Fields) -> str | None:
    blocks = form.response_blocks(body)
    error = body.get("error")
    if error:
        blocks = [*(blocks or []), error_block(error, body)]
    return _text(blocks)


def _text(blocks: list[Block] | None) -> str | None:
    return lay_out(blocks) if blocks else None
