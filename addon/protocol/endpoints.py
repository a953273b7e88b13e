"""Endpoints: the paths of the API without the ids in them, so that requests can be summed up by what they do."""

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
"""What is none of the resources known: callers choose paths, and must not make up endpoints without end."""

_MAX_SEGMENTS = 6


def endpoint_of(path: str) -> str:
    """Return the endpoint of a path under `/v1/`, without its query: `/v1/files/abc/content` is one of `{id}`.

    Its segments are decoded once, as an upstream reads them.
    """
    segments = path.removeprefix("/v1/").rstrip("/").split("/")
    resource, *others = map(unquote, segments) if "%" in path else segments
    if resource not in RESOURCES or len(others) >= _MAX_SEGMENTS:
        return OTHER
    return "/".join(["/v1", resource, *(segment if segment in _WORDS else "{id}" for segment in others)])
