import io

import pytest

from addon.metering.estimates.estimate_request import EstimateRequest, joined, separated

REQUEST = EstimateRequest(
    endpoint="/v1/chat/completions",
    model="gpt-4o",
    conditions=(("service_tier", "flex"),),
    model_asked="gpt-4o",
    request=b'{"messages": []}',
    events=joined([b"{}", b'{"a":\n1}']),
    texts=(("0", b"\xff\x00text"), ("reasoning 0", b"")),
    beyond=7,
)


def test_a_request_is_read_as_it_was_written() -> None:
    pipe = io.BytesIO()
    REQUEST.write(pipe)
    REQUEST.write(pipe)
    pipe.seek(0)
    for _ in range(2):
        read = EstimateRequest.read(pipe)
        assert (read.endpoint, read.model, read.request) == (REQUEST.endpoint, REQUEST.model, REQUEST.request)
        assert (read.events, read.texts, read.beyond) == (REQUEST.events, REQUEST.texts, REQUEST.beyond)
    with pytest.raises(EOFError):
        EstimateRequest.read(pipe)


def test_a_pipe_that_breaks_anywhere_raises_eof() -> None:
    whole = io.BytesIO()
    REQUEST.write(whole)
    for length in range(len(whole.getvalue())):
        with pytest.raises(EOFError):
            EstimateRequest.read(io.BytesIO(whole.getvalue()[:length]))


def test_joined_events_are_separated() -> None:
    assert separated(REQUEST.events) == [b"{}", b'{"a":\n1}']


def test_the_size_covers_all_bytes_and_the_repr_none() -> None:
    assert REQUEST.size == 16 + 2 + 1 + 8 + 6
    assert "messages" not in repr(REQUEST)
