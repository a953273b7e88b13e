"""The text of a body: a request's, an answer's or an event stream's, by its endpoint."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from addon.inspector.conversation import chat, embeddings, responses
from addon.inspector.conversation.layout import Block, error_block, lay_out
from addon.protocol.json_fields import Fields, parse
from addon.protocol.sse import Decoder

type _Blocks = Callable[[Fields], list[Block] | None]


class Endpoint(NamedTuple):
    """How the bodies of an endpoint are read."""

    request_blocks: _Blocks
    answer_blocks: _Blocks
    assembled: Callable[[Iterable[Fields]], Fields] | None
    """Puts the events of a stream together; None where the endpoint has no streams."""


_ENDPOINTS = {
    "/v1/chat/completions": Endpoint(chat.request_blocks, chat.answer_blocks, chat.assembled),
    "/v1/responses": Endpoint(responses.request_blocks, responses.answer_blocks, responses.assembled),
    "/v1/embeddings": Endpoint(embeddings.request_blocks, embeddings.answer_blocks, None),
}
_ONE_RESPONSE = "/v1/responses/"


def endpoint_of(target: str) -> Endpoint | None:
    """Return the endpoint of a request's target, or None where it is none of those that are known."""
    path = target.partition("?")[0]
    if path.startswith(_ONE_RESPONSE):
        path = "/v1/responses"
    return _ENDPOINTS.get(path.rstrip("/"))


def request_text(endpoint: Endpoint, data: bytes, *, cut: bool) -> str | None:
    """Write a request for people; None where it is no such request. Of one that is `cut`: as far as it goes."""
    return _text(endpoint.request_blocks(parse(data, cut=cut)))


def answer_text(endpoint: Endpoint, data: bytes, *, cut: bool) -> str | None:
    """Write an answer, or an error, for people; None where it is neither."""
    return _answer_text(endpoint, parse(data, cut=cut))


def stream_text(endpoint: Endpoint, data: bytes) -> str | None:
    """Write what the events of a stream come to, as far as they go; None where they are others."""
    return _answer_text(endpoint, endpoint.assembled(events_of(data))) if endpoint.assembled else None


def events_of(data: bytes) -> Iterator[Fields]:
    """Return the objects that the events of a stream hold."""
    return filter(None, (parse(event.data) for event in Decoder().feed(data)))


def _answer_text(endpoint: Endpoint, answer: Fields) -> str | None:
    blocks = endpoint.answer_blocks(answer)
    error = answer.get("error")
    if error:
        blocks = [*(blocks or []), error_block(error, answer)]
    return _text(blocks)


def _text(blocks: list[Block] | None) -> str | None:
    return lay_out(blocks) if blocks else None
