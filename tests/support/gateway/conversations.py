"""Bodies as the text that mitmweb shows."""

import json

from addon.inspector.conversation import rendering
from addon.inspector.conversation.rendering import Format, format_of


def known_format(path: str) -> Format:
    found = format_of(path)
    assert found is not None
    return found


CHAT, RESPONSES, EMBEDDINGS = map(known_format, ["/v1/chat/completions", "/v1/responses", "/v1/embeddings"])
FORMATS = {"chat": CHAT, "responses": RESPONSES, "embeddings": EMBEDDINGS}


def request(of: Format, body: object, *, cut: bool = False) -> str | None:
    return rendering.request_text(of, json.dumps(body).encode(), cut=cut)


def response(of: Format, body: object) -> str | None:
    return rendering.response_text(of, json.dumps(body).encode(), cut=False)


def stream(of: Format, *events: object) -> str | None:
    data = "".join(f"data: {event if isinstance(event, str) else json.dumps(event)}\n\n" for event in events)
    return rendering.stream_text(of, data.encode())
