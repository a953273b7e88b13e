"""Which bodies are passed on as they come, instead of being read whole first."""

from mitmproxy import http

LARGE = 1024 * 1024
"""Bytes from which a body is streamed."""


def is_streamed_upload(request: http.Request) -> bool:
    """Tell whether a request's body is large, or of unknown length."""
    length = request.headers.get("content-length")
    if length is None:
        # Over HTTP/2 a body needs no header; a request without a body ends with its headers, streamed or not.
        return "transfer-encoding" in request.headers or request.is_http2
    return not length.isdecimal() or int(length) > LARGE


def has_body(request: http.Request) -> bool:
    """Tell whether a request has a body, or may have one, by its headers."""
    return request.headers.get("content-length", "0") != "0" or is_streamed_upload(request)


def is_streamed_answer(response: http.Response) -> bool:
    """Tell whether an answer is an event stream, large, or of unknown length."""
    if is_event_stream(response):
        return True
    length = response.headers.get("content-length", "")
    return not length.isdecimal() or int(length) > LARGE


def is_event_stream(response: http.Response) -> bool:
    """Tell whether an answer is an event stream, by its headers."""
    content_type: str = response.headers.get("content-type", "")
    return content_type.lower().startswith("text/event-stream")
