import pytest
from hypothesis import given
from hypothesis import strategies as st

from addon.protocol.endpoints import OTHER, endpoint_of


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
def test_ids_are_taken_out(path: str, endpoint: str) -> None:
    assert endpoint_of(path) == endpoint


@given(st.lists(st.text(alphabet="abc123-_%", min_size=1, max_size=4), max_size=5))
def test_callers_make_up_no_endpoints_without_end(segments: list[str]) -> None:
    made_up = endpoint_of("/v1/models/" + "/".join(segments))
    assert set(made_up.removeprefix("/v1/models").split("/")) <= {"", "{id}"}
