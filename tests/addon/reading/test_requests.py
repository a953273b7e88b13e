import gzip
import zlib
from collections.abc import Callable, Iterable

import brotli
import pytest
import zstandard

from addon.reading import requests
from addon.reading.head import Head
from addon.reading.requests import of_head
from store.errors import RequestTooLarge
from store.request import NOTHING, Demand, Reading

JSON = (b"Content-Type", b"application/json")
MOST = 64 * 1024 * 1024
BODY = b'{"model": "gpt-5", "messages": []}'
FORM = b'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n--B--\r\n'


def head(target: str, *fields: tuple[bytes, bytes], method: str = "POST", is_upgrade: bool = False) -> Head:
    return Head(method, target.encode("latin-1"), fields or (JSON,), is_upgrade=is_upgrade)


def of_body(head: Head, pieces: Iterable[bytes], most: int) -> Reading:
    """Read a request as its reader does: its body where the head does not tell."""
    return of_head(head) or requests.of_body(head, pieces, most)


def read(target: str = "/v1/chat/completions", body: bytes = BODY, *fields: tuple[bytes, bytes]) -> Reading:
    return of_body(head(target, *fields), [body], MOST)


NAMED = [
    "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/responses/compact", "/v1/embeddings",
    "/v1/messages", "/v1/moderations", "/v1/rerank", "/v1/audio/speech", "/v1/images/generations", "/v1/videos",
    "/v1/threads/runs", "/v1/threads/thread_1/runs", "/v1/ocr", "/v1/fim/completions", "/v1/chat/completions/",
    "/v1/realtime/client_secrets", "/v1/decisions",
]  # fmt: skip

STORED = [
    "/v1/batches", "/v1/Batches", "/v1/messages/batches", "/v1/fine_tuning/jobs", "/v1/fine_tuning/jobs/ft_1/resume",
    "/v1/fine_tuning/alpha/graders/run", "/v1/evals/e_1/runs", "/v1/threads/t_1/runs/r_1/submit_tool_outputs",
    "/v1/videos/v_1/remix", "/v1/videos/edits", "/v1/videos/extensions", "/v1/batch/jobs", "/v1/fine-tunes",
    "/v1/agents/completions", "/v1/predictions", "/v1/deployments/o/n/predictions", "/v1/openai/v1/batches",
    "/v1/models/m:batchGenerateContent",
]  # fmt: skip

GENERATING_NOTHING = [
    "/v1/files", "/v1/uploads", "/v1/uploads/u_1/parts", "/v1/uploads/u_1/complete", "/v1/vector_stores",
    "/v1/vector_stores/v_1/search", "/v1/containers", "/v1/skills", "/v1/assistants", "/v1/assistants/a_1",
    "/v1/threads", "/v1/threads/t_1", "/v1/threads/t_1/messages", "/v1/threads/t_1/messages/m_1",
    "/v1/threads/t_1/runs/r_1", "/v1/threads/t_1/runs/r_1/cancel", "/v1/batches/b_1/cancel",
    "/v1/messages/batches/b_1/cancel", "/v1/fine_tuning/jobs/ft_1/cancel", "/v1/fine_tuning/jobs/ft_1/pause",
    "/v1/fine_tuning/alpha/graders/validate", "/v1/responses/resp_1/cancel", "/v1/chat/completions/c_1",
    "/v1/responses/input_tokens", "/v1/messages/count_tokens", "/v1/tokenize", "/v1/evals", "/v1/evals/e_1",
    "/v1/evals/e_1/runs/r_1", "/v1/organization/users",
]  # fmt: skip


@pytest.mark.parametrize("path", NAMED)
def test_most_endpoints_name_their_model_in_the_body(path: str) -> None:
    assert of_head(head(path)) is None
    assert read(path) == Reading(("gpt-5",))
    assert "does not name its model" in read(path, b"{}").doubt


@pytest.mark.parametrize("path", STORED)
def test_what_is_stored_upstream_cannot_be_judged(path: str) -> None:
    reading = of_head(head(path))
    assert reading
    assert "stored upstream" in reading.doubt
    assert read(path) == reading


@pytest.mark.parametrize("path", GENERATING_NOTHING)
def test_some_endpoints_generate_nothing(path: str) -> None:
    assert of_head(head(path, (b"content-type", b"text/plain"))) == NOTHING
    assert read(path, b"anything") == NOTHING


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
@pytest.mark.parametrize("target", ["/v1/chat/completions?model=a", "/v1/models/org%2Fname", "/v1/batches", "/v1/x"])
def test_reading_and_deleting_generate_nothing(method: str, target: str) -> None:
    assert of_head(head(target, method=method)) == NOTHING


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
@pytest.mark.parametrize("path", ["/v1/files/%2500", "/v1/models/%ff", "/v1/x%20y", "/v1/%zz", "/v1/x%0a", "/v1/\xe9"])
def test_a_path_that_is_not_printable_once_decoded_is_a_doubt(method: str, path: str) -> None:
    reading = of_head(head(path, method=method))
    assert reading
    assert reading.doubt.startswith("The path")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/files/..%2Fchat/completions",
        "/v1/files/../chat/completions",
        "/v1/files/x;y",
        "/v1//files",
        "/v1/./files",
        "/v1/%62atches",
        "/v1/files/a%2Fb",
        "/v1/files/..;/chat",
        "/v1/chat\\completions",
        "/v1/x,y",
        "/v1/files/..",
    ],
)
def test_a_path_that_upstreams_read_differently_is_a_doubt(path: str) -> None:
    reading = of_head(head(path))
    assert reading
    assert reading.doubt.startswith("The path")


@pytest.mark.parametrize("name", [b"X-HTTP-Method-Override", b"x_http_method_override", b"X-Method-Override"])
def test_a_header_that_replaces_the_method_is_a_doubt(name: bytes) -> None:
    reading = of_head(head("/v1/chat/completions", (name, b"POST"), method="GET"))
    assert reading
    assert "replaces the method" in reading.doubt


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/v1/engines/davinci/completions", "davinci"),
        ("/v1/engines/davinci/embeddings/", "davinci"),
        ("/v1/deployments/d/chat/completions", "d"),
        ("/v1/models/gemini-2.5-pro:generateContent", "gemini-2.5-pro"),
        ("/v1/models/owner/name/predictions", "owner/name"),
    ],
)
def test_a_path_may_name_the_model(path: str, model: str) -> None:
    assert of_head(head(path)) is None
    assert read(path, b'{"contents": [], "input": {"model": "x"}}') == Reading((model,))
    assert read(path, b"") == Reading((model,))
    assert of_body(head(path, (b"x-a", b"b")), [], MOST) == Reading((model,))
    assert read(path) == Reading(("gpt-5", model))
    assert read(f"{path}?model=b", b"{}") == Reading((model, "b"))
    assert "strict JSON" in read(path, b"{").doubt


@pytest.mark.parametrize(
    "path", ["/v1/models/m", "/v1/models/m/x", "/v1/models", "/v1/models/m:generate:x", "/v1/models/a/b/c/predictions"]
)
def test_another_path_of_models_is_a_doubt(path: str) -> None:
    assert read(path).models == () or path == "/v1/models"
    assert read(path).doubt or path == "/v1/models"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/tunedModels/t:generateContent",
        "/v1/workflows/accounts/fireworks/models/m/text_to_image",
        "/v1/image_generation/accounts/fireworks/models/m",
        "/v1/inference/org/m",
        "/v1/workers/run/@cf/m",
        "/v1/openai/deployments/m/chat/completions",
        "/v1/Engines/m/completions",
        "/v1/Models/m:generateContent",
        "/v1/publishers/google/models/m:x",
        "/v1/model/m/invoke",
        "/v1/run/@cf/m",
    ],
)
def test_a_model_in_another_place_of_the_path_is_a_doubt_whatever_the_body_names(path: str) -> None:
    reading = of_head(head(path))
    assert reading == read(path)
    assert "not known how this endpoint names its model" in reading.doubt


@pytest.mark.parametrize("name", ["preset", "agent_id", "prompt_id"])
def test_a_query_that_refers_to_something_stored_is_a_doubt(name: str) -> None:
    reading = of_head(head(f"/v1/chat/completions?{name}=x"))
    assert reading == read(f"/v1/chat/completions?{name}=x")
    assert "stored upstream" in reading.doubt


CONVERSATIONS = ["/v1/conversations", "/v1/conversations/c_1", "/v1/conversations/c_1/items"]


@pytest.mark.parametrize("path", CONVERSATIONS)
@pytest.mark.parametrize("body", [b"", b"{}", b'{"items": [{"model": "x"}], "metadata": {"model": "x"}}'])
def test_a_conversation_that_is_only_stored_generates_nothing(path: str, body: bytes) -> None:
    assert of_head(head(path)) is None
    assert read(path, body) == NOTHING


@pytest.mark.parametrize("path", CONVERSATIONS)
@pytest.mark.parametrize(
    "body",
    [
        b'{"inputs": "x", "agent_id": "a"}',
        b'{"inputs": "x"}',
        b'{"items": [], "Inputs": "x"}',
        b'{"items": [],}',
        b"[]",
        b'{"items": [], "items": []}',
        b'{"metadata": {}}x',
        b'{"inputs": "x", "agent_id": "a", "model": "gpt-5"}',
        b" ",
    ],
)
def test_a_conversation_that_may_generate_has_to_name_its_model(path: str, body: bytes) -> None:
    assert read(path, body).doubt
    assert read(path, b'{"inputs": "x", "model": "m"}') == Reading(("m",))
    assert "no Content-Type" in read(path, b"{}", (b"x-a", b"b")).doubt


@pytest.mark.parametrize("target", ["/v1/realtime?model=gpt-realtime", "/v1/realtime/?intent=x&model=gpt-realtime"])
def test_the_opening_of_a_realtime_session_names_its_model_in_the_query(target: str) -> None:
    found = of_head(head(target, method="GET", is_upgrade=True))
    assert found == Reading(("gpt-realtime",), demand=Demand())


@pytest.mark.parametrize(
    "target",
    [
        "/v1/realtime",
        "/v1/realtime?call_id=x",
        "/v1/realtime?model=a&call_id=x",
        "/v1/realtime?model=a&model=b",
        "/v1/realtime?model=",
        "/v1/realtime?model",
        "/v1/realtime?model=a&MODEL=b",
        "/v1/realtime?Model=a",
        "/v1/realtime?mod%65l=a",
        "/v1/realtime?model=a;x=y",
        "/v1/realtime?x=y;model=a",
        "/v1/realtime?model=a%2562",
        "/v1/realtime?model=a+b",
        "/v1/realtime?model=%ff",
        "/v1/realtime?model=a%00",
        "/v1/realtime?model[]=a",
        "/v1/realtime?model=a&m%256fdel=b",
        "/v1/realtime?model=a,b",
        "/v1/realtime/translations?model=a",
        "/v1/chat/completions?model=a",
        "/v1/live?model=a",
        "/v1/responses?model=a",
        "/v1/realtime?deployment=a",
        "/v1/realtime?model=a&call_id=rtc_1",
        "/v1/realtime?model=a&c%61llId=rtc_1",
        "/v1/realtime?model=a&agent_id=x",
    ],
)
def test_an_opening_without_one_certain_model_is_a_doubt(target: str) -> None:
    reading = of_head(head(target, method="GET", is_upgrade=True))
    assert reading
    assert reading.models == ()
    assert reading.doubt


def test_the_opening_of_a_responses_session_generates_nothing() -> None:
    assert of_head(head("/v1/responses", method="GET", is_upgrade=True)) == NOTHING


@pytest.mark.parametrize(
    "query", ["model=b", "api-version=1&model_id=b", "deployment=b", "model=b&x=1;2".partition(";")[0]]
)
def test_the_query_is_judged_beside_the_body(query: str) -> None:
    assert read(f"/v1/chat/completions?{query}") == Reading(("gpt-5", "b"))
    assert "does not name" in read(f"/v1/chat/completions?{query}", b"{}").doubt


@pytest.mark.parametrize(
    "query", ["model=b&model=b", "Model=b", "x;model=b", "models%5B%5D=b", "m%6Fdel=b", "model=%2562"]
)
def test_an_unusual_query_is_a_doubt(query: str) -> None:
    reading = of_head(head(f"/v1/chat/completions?{query}"))
    assert reading
    assert reading.doubt.startswith("The query")


@pytest.mark.parametrize("query", ["api-version=2025-01-01&x=a;b", "stream=true&q=%25%ff"])
def test_other_parameters_make_no_difference(query: str) -> None:
    assert read(f"/v1/chat/completions?{query}") == Reading(("gpt-5",))


@pytest.mark.parametrize(
    "name",
    [
        b"x-portkey-config",
        b"X-Portkey-Config",
        b"helicone-fallbacks",
        b"x-ms-oai-image-generation-deployment",
        b"x-model",
        b"azureml-model-deployment",
        b"ai-language-model-id",
        b"helicone-model-override",
        b"helicone-target-url",
        b"x_model",
        b"x-portkey-custom-host",
    ],
)
def test_a_header_that_routes_is_a_doubt_for_what_generates(name: bytes) -> None:
    field = (name, b"x")
    for found in (
        of_head(head("/v1/chat/completions", JSON, field)),
        of_head(head("/v1/realtime?model=a", field, is_upgrade=True)),
    ):
        assert found
        assert "A header of the request" in found.doubt
    assert of_head(head("/v1/files", field)) == NOTHING


USUAL_HEADERS = (
    (b"accept", b"application/json"),
    (b"user-agent", b"OpenAI/Python"),
    (b"x-stainless-lang", b"python"),
    (b"openai-beta", b"assistants=v2"),
    (b"anthropic-version", b"2023-06-01"),
    (b"x-title", b"x"),
    (b"modal-session", b"x"),
    (b"x-portkey-metadata", b"{}"),
    (b"cf-aig-cache-ttl", b"60"),
    (b"helicone-user-id", b"x"),
)


def test_usual_headers_make_no_difference() -> None:
    assert read("/v1/chat/completions", BODY, JSON, *USUAL_HEADERS) == Reading(("gpt-5",))


@pytest.mark.parametrize(
    "value",
    [
        b"application/json",
        b"application/json; charset=utf-8",
        b"application/json;charset=UTF-8",
        b'application/json; charset="utf-8"',
        b"application/vnd.api+json",
        b" application/json ",
        b"application/json; charset=utf8",
    ],
)
def test_json_is_read_under_these_types(value: bytes) -> None:
    assert read("/v1/chat/completions", BODY, (b"content-type", value)) == Reading(("gpt-5",))


@pytest.mark.parametrize(
    "value",
    [
        b"Application/JSON",
        b"Multipart/Form-Data; boundary=B",
        b"multipart/form-data; Boundary=B",
        b"text/plain",
        b"application/x-www-form-urlencoded",
        b"text/json",
        b"application/json; charset=utf-16",
        b"",
        b"*/*",
        b"application/json; charset=utf-7",
        b"application/json; charset=utf-8; charset=utf-16",
        b"application/json;",
        b"json",
        b"application/json, text/plain",
        b"application/jsonp",
        b"application/json-seq",
        b"application/x-ndjson",
        b"application/json; boundary=x",
        b"multipart/form-data",
        b"multipart/mixed; boundary=B",
        b"application/octet-stream",
        b"multipart/form-data; boundary=B; charset=utf-8",
        b"multipart/form-data; charset=utf-8; boundary=B",
        b"multipart/form-data; boundary=B; boundary=C",
        b'multipart/form-data; boundary="B',
        b"multipart/form-data; boundary=",
        b"multipart/form-data; boundary*=utf-8''B",
        b"multipart/form-data; boundary=" + b"B" * 71,
        b"multipart/form-data;boundary=B,C",
    ],
)
def test_other_types_are_doubts(value: bytes) -> None:
    reading = of_head(head("/v1/chat/completions", (b"content-type", value)))
    assert reading
    assert "Content-Type" in reading.doubt


@pytest.mark.parametrize("name", [b"Content-Type", b"content_type"])
def test_two_types_are_a_doubt(name: bytes) -> None:
    assert "Content-Type" in read("/v1/chat/completions", BODY, JSON, (name, b"text/plain")).doubt


def test_no_type_is_a_doubt() -> None:
    assert "no Content-Type" in read("/v1/chat/completions", BODY, (b"accept", b"x")).doubt


@pytest.mark.parametrize("value", [b"multipart/form-data; boundary=B", b'multipart/form-data;boundary="B"'])
def test_a_form_is_read(value: bytes) -> None:
    assert read("/v1/audio/transcriptions", FORM, (b"content-type", value)) == Reading(("whisper-1",))
    assert read("/v1/audio/transcriptions?model=b", FORM, (b"content-type", value)) == Reading(("whisper-1", "b"))


def test_json_is_no_form_and_a_form_no_json() -> None:
    assert "The form" in read("/v1/x", BODY, (b"content-type", b"multipart/form-data; boundary=B")).doubt
    assert "no strict JSON" in read("/v1/x", FORM).doubt


CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "GZIP": gzip.compress,
    "br": brotli.compress,
    "zstd": zstandard.compress,
}


def read_coded(body: bytes, *codings: str, most: int = MOST, length: int = 10) -> Reading:
    fields = [(b"Content-Encoding", coding.encode()) for coding in codings]
    pieces = [body[start : start + length] for start in range(0, len(body), length)]
    return of_body(head("/v1/chat/completions", JSON, *fields), pieces, most)


@pytest.mark.parametrize("length", [1, 10, 10_000])
@pytest.mark.parametrize("coding", CODINGS)
def test_a_compressed_body_is_read(coding: str, length: int) -> None:
    assert read_coded(CODINGS[coding](BODY), coding, length=length) == Reading(("gpt-5",))


@pytest.mark.parametrize("length", [1, 10, 10_000])
@pytest.mark.parametrize("coding", CODINGS)
def test_a_body_that_is_not_exactly_one_stream_is_a_doubt(coding: str, length: int) -> None:
    body = CODINGS[coding](BODY)
    for wrong in (body[:-1], body[:10], body + b"x", body + CODINGS[coding](b" "), b"nothing of it", b"\x1f"):
        assert "Content-Encoding" in read_coded(wrong, coding, length=length).doubt


def test_a_body_in_parts_of_gzip_is_a_doubt() -> None:
    assert "Content-Encoding" in read_coded(gzip.compress(BODY[:10]) + gzip.compress(BODY[10:]), "gzip").doubt


@pytest.mark.parametrize(
    "codings", [["deflate"], ["compress"], ["gzip, br"], ["gzip", "gzip"], ["x"], [""], ["identity", "br"]]
)
def test_other_codings_are_doubts(codings: list[str]) -> None:
    assert "Content-Encoding" in read_coded(zlib.compress(BODY), *codings).doubt


def test_identity_is_no_coding() -> None:
    assert read_coded(BODY, "identity") == Reading(("gpt-5",))


@pytest.mark.parametrize("start", [b"{", b" ", b"\n", b"\xef\xbb\xbf{", b"\0{", b"\xfe\xff"])
def test_a_coded_body_that_looks_like_json_is_a_doubt(start: bytes) -> None:
    assert "looks like JSON" in read_coded(start + brotli.compress(BODY), "br").doubt


def test_a_form_is_not_read_compressed() -> None:
    fields = (b"content-type", b"multipart/form-data; boundary=B"), (b"content-encoding", b"gzip")
    assert "compressed" in read("/v1/audio/transcriptions", gzip.compress(FORM), *fields).doubt


@pytest.mark.parametrize("coding", CODINGS)
def test_a_body_that_decodes_to_more_than_the_bound_is_too_large(coding: str) -> None:
    body = b'{"model": "a", "x": "%b"}' % (b"x" * 3_000_000)
    assert read_coded(CODINGS[coding](body), coding, most=len(body), length=100) == Reading(("a",))
    with pytest.raises(RequestTooLarge):
        read_coded(CODINGS[coding](body), coding, most=len(body) - 1)


@pytest.mark.parametrize(
    ("target", "kind", "body"), [("/v1/x", JSON[1], BODY), ("/v1/x", b"multipart/form-data; boundary=B", FORM)]
)
def test_a_plain_body_larger_than_the_bound_is_too_large(target: str, kind: bytes, body: bytes) -> None:
    assert of_body(head(target, (b"content-type", kind)), [body], len(body)).models
    with pytest.raises(RequestTooLarge):
        of_body(head(target, (b"content-type", kind)), [body], len(body) - 1)


def test_an_empty_body_is_a_doubt() -> None:
    assert "empty" in of_body(head("/v1/chat/completions"), [], MOST).doubt
    assert "empty" in of_body(head("/v1/chat/completions"), [b"", b""], MOST).doubt
