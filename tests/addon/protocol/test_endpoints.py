import pytest
from hypothesis import given
from hypothesis import strategies as st

from addon.protocol import endpoints
from addon.protocol.endpoints import OTHER, Kind, endpoint_of, shape_of


@pytest.mark.parametrize(
    ("path", "endpoint"),
    [
        ("/v1/chat/completions", "/v1/chat/completions"),
        ("/v1/chat/completions/", "/v1/chat/completions"),
        ("/v1/chat/completions/chatcmpl-abc/messages", "/v1/chat/completions/{id}/messages"),
        ("/v1/responses/resp_123/input_items", "/v1/responses/{id}/input_items"),
        ("/v1/files/file-abc/content", "/v1/files/{id}/content"),
        ("/v1/models/org%2Fname", "/v1/models/{id}"),
        ("/v1/%72esponses", "/v1/responses"),
        ("/v1/chat%2Fcompletions", OTHER),
        ("/v1/%2572esponses", OTHER),
        ("/v1/models/gpt-4o", "/v1/models/{id}"),
        ("/v1/audio/transcriptions", "/v1/audio/transcriptions"),
        ("/v1/threads/thread_1/runs/run_1/submit_tool_outputs", "/v1/threads/{id}/runs/{id}/submit_tool_outputs"),
        ("/v1/fine_tuning/jobs/ftjob-1/events", "/v1/fine_tuning/jobs/{id}/events"),
        ("/v1/something/new", OTHER),
        ("/v1/", OTHER),
        ("/v1/models/" + "a/" * 9, OTHER),
    ],
)
def test_an_endpoint_has_no_ids(path: str, endpoint: str) -> None:
    assert endpoint_of(path) == endpoint


@given(st.lists(st.text(alphabet="abc123-_%", min_size=1, max_size=4), max_size=5))
def test_callers_cannot_create_endless_endpoints(segments: list[str]) -> None:
    made_up = endpoint_of("/v1/models/" + "/".join(segments))
    assert set(made_up.removeprefix("/v1/models").split("/")) <= {"", "{id}"}


@pytest.mark.parametrize(
    ("path", "kind", "is_countable"),
    [
        ("/v1/chat/completions", Kind.CHAT, True),
        ("/v1/completions", Kind.COMPLETION, True),
        ("/v1/responses", Kind.RESPONSE, True),
        ("/v1/responses/resp_1", Kind.RESPONSE, False),
        ("/v1/responses/resp_1/cancel", Kind.RESPONSE, False),
        ("/v1/responses/resp_1/input_items", Kind.RESPONSE, False),
        ("/v1/embeddings", Kind.EMBEDDINGS, False),
        ("/v1/audio/speech", Kind.SPEECH, False),
        ("/v1/chat/completions/chatcmpl-1", Kind.OTHER, False),
        ("/v1/models", Kind.OTHER, False),
        ("/v1/realtime", Kind.OTHER, False),
        ("/v1/something/new", Kind.OTHER, False),
    ],
)
def test_an_endpoint_has_a_kind(path: str, kind: Kind, is_countable: bool) -> None:
    shape = shape_of(endpoint_of(path))
    assert (shape.kind, shape.is_countable) == (kind, is_countable)


@pytest.mark.parametrize(
    ("path", "rereads"),
    [
        ("/v1/chat/completions", False),
        ("/v1/responses/resp_1", False),
        ("/v1/threads/thread_1/runs", False),
        ("/v1/threads/thread_1/runs/run_1/submit_tool_outputs", True),
        ("/v1/something/new", False),
        ("/v1/chat/completions/chatcmpl-1", True),
        ("/v1/threads/thread_1/runs/run_1", True),
        ("/v1/responses/resp_1/cancel", True),
        ("/v1/threads/thread_1/runs/run_1/cancel", True),
        ("/v1/batches/batch_1/cancel", True),
        ("/v1/fine_tuning/jobs/ftjob-1/cancel", True),
    ],
)
def test_a_post_may_return_what_was_made_before(path: str, rereads: bool) -> None:
    shape = shape_of(endpoint_of(path))
    assert shape.rereads("POST") == rereads
    assert all(shape.rereads(method) for method in ("GET", "HEAD", "DELETE"))


def test_every_entry_of_the_table_can_be_reached() -> None:
    for pattern, shape in endpoints._SHAPES.items():  # noqa: SLF001
        path = pattern.replace("*/", "/v1/threads/").replace("*", "abc").replace("{id}", "abc")
        assert shape_of(endpoint_of(path)) is shape
