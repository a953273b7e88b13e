"""The API's endpoints: their names in the ledger, and the shape of what each takes and returns.

An endpoint is a path with `{id}` in the place of its ids, so that requests can be summed up by what they do.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from urllib.parse import unquote

RESOURCES = frozenset({
    "assistants", "audio", "batches", "chat", "completions", "containers", "conversations", "edits", "embeddings",
    "engines", "evals", "files", "fine_tuning", "graders", "images", "messages", "models", "moderations",
    "organization", "realtime", "rerank", "responses", "score", "skills", "threads", "tokenize", "uploads",
    "vector_stores", "videos",
})  # fmt: skip
_WORDS = RESOURCES | {
    "accept", "alpha", "archive", "calls", "cancel", "checkpoints", "client_secrets", "compact", "complete",
    "content", "count_tokens", "edits", "events", "file_batches", "generations", "hangup", "input_items",
    "input_tokens", "items", "jobs", "output_items", "parts", "pause", "permissions", "refer", "reject", "remix",
    "resume", "run", "runs", "search", "sessions", "speech", "steps", "submit_tool_outputs", "transcription_sessions",
    "transcriptions", "translations", "validate", "variations", "voices",
}  # fmt: skip

OTHER = "/v1/{other}"
"""The endpoint of every path whose resource is unknown: callers choose paths, and must not create endless endpoints."""

REALTIME, RESPONSES = "/v1/realtime", "/v1/responses"
"""The endpoints that are also served over a WebSocket."""

_MAX_SEGMENTS = 6
_READING_METHODS = frozenset({"GET", "HEAD", "DELETE"})


def endpoint_of(path: str) -> str:
    """Return the endpoint of a path under `/v1/`, without its query: `/v1/files/abc` is one of `/v1/files/{id}`.

    Its segments are decoded once, as an upstream reads them.
    """
    segments = path.removeprefix("/v1/").rstrip("/").split("/")
    resource, *others = map(unquote, segments) if "%" in path else segments
    if resource not in RESOURCES or len(others) >= _MAX_SEGMENTS:
        return OTHER
    return "/".join(["/v1", resource, *(segment if segment in _WORDS else "{id}" for segment in others)])


class Kind(Enum):
    """The format of an endpoint's requests and responses."""

    CHAT = auto()
    COMPLETION = auto()
    """OpenAI's legacy completions."""
    RESPONSE = auto()
    EMBEDDINGS = auto()
    SPEECH = auto()
    IMAGES = auto()
    OTHER = auto()


@dataclass(frozen=True, slots=True)
class Shape:
    """The facts about an endpoint that metering and the inspector need."""

    kind: Kind = Kind.OTHER
    stream_marks: tuple[bytes, ...] = ()
    """Bytes that stand in those events of a stream that continue its output."""
    post_rereads: bool = False
    """True if a POST, too, returns an object that was made before."""

    @property
    def is_countable(self) -> bool:
        """True if the tokens of a response that reports no usage can be counted offline."""
        return bool(self.stream_marks)

    def rereads(self, method: str) -> bool:
        """Tell whether a request returns what was made before, with the usage that was booked then."""
        return self.post_rereads or method in _READING_METHODS


_REREADS = Shape(post_rereads=True)

_SHAPES: Mapping[str, Shape] = {
    "/v1/chat/completions": Shape(Kind.CHAT, (b'"delta"',)),
    "/v1/completions": Shape(Kind.COMPLETION, (b'"text"',)),
    RESPONSES: Shape(Kind.RESPONSE, (b'.delta"', b"response.output_item.added")),
    "/v1/responses/*/cancel": Shape(Kind.RESPONSE, post_rereads=True),
    "/v1/responses/*": Shape(Kind.RESPONSE),
    "/v1/embeddings": Shape(Kind.EMBEDDINGS),
    "/v1/audio/speech": Shape(Kind.SPEECH),
    "/v1/images/*": Shape(Kind.IMAGES),
    "*/cancel": _REREADS,  # of batches, runs, jobs, uploads
    "*/completions/{id}": _REREADS,  # changes the metadata of a stored chat completion
    "*/runs/{id}": _REREADS,  # changes the metadata of a run
    "*/submit_tool_outputs": _REREADS,  # continues a run, whose usage is that of the request which made it
}
"""By endpoint. `*` stands for any characters; of several patterns the first holds."""

_PATTERNS = [(pattern.partition("*"), shape) for pattern, shape in _SHAPES.items() if "*" in pattern]
_UNKNOWN = Shape()


@functools.lru_cache(256)
def shape_of(endpoint: str) -> Shape:
    """Return the shape of an endpoint; Kind.OTHER for an unknown one."""
    if endpoint in _SHAPES:
        return _SHAPES[endpoint]
    fitting = (shape for (start, _, end), shape in _PATTERNS if endpoint.startswith(start) and endpoint.endswith(end))
    return next(fitting, _UNKNOWN)
