"""The ways in which endpoints generate, and so the places where they name their models.

Sources: the API references of OpenAI, Anthropic (message batches), Mistral (conversations, agents, batch jobs), Google
(verbs after a model), Replicate (predictions), Fireworks (workflows of a model) and DeepInfra (inference).
"""

import functools
import re
from enum import Enum, auto
from typing import NamedTuple

from addon.protocol.endpoints import OTHER, REALTIME, RESPONSES, endpoint_of
from addon.reading.head import Head
from addon.reading.model_paths import model_named_by, plain_path
from addon.remembered import remembered


class How(Enum):
    """The place where a request names the model that it generates with."""

    NOTHING = auto()
    """It generates nothing."""
    NAMED = auto()
    """Its body has to name it."""
    IN_PATH = auto()
    """Its path names it."""
    IN_QUERY = auto()
    """It opens a WebSocket whose query has to name it."""
    CONVERSATION = auto()
    """OpenAI only stores there, Mistral generates there: the fields of the body tell."""
    STORED = auto()
    """Only what is stored upstream names it."""
    UNKNOWN = auto()
    """It generates in a way that is not known here."""


_READING_METHODS = frozenset({"GET", "HEAD", "DELETE"})

# By endpoint, for methods that do not only read; `*` stands for any characters, and the first pattern that fits holds.
_TABLE = (
    ("/v1/messages/batches", How.STORED),
    ("/v1/batches", How.STORED),
    ("*/cancel", How.NOTHING),
    ("*/submit_tool_outputs", How.STORED),
    ("/v1/fine_tuning/jobs/{id}/pause", How.NOTHING),
    ("/v1/fine_tuning/alpha/graders/validate", How.NOTHING),
    ("/v1/fine_tuning/*", How.STORED),
    ("/v1/evals", How.NOTHING),
    ("/v1/evals/{id}", How.NOTHING),
    ("/v1/evals/{id}/runs/{id}", How.NOTHING),  # cancels it
    ("/v1/evals/*", How.STORED),
    ("/v1/videos/*", How.STORED),  # edits, extensions and remixes of a video
    ("/v1/threads", How.NOTHING),
    ("/v1/threads/{id}", How.NOTHING),
    ("/v1/threads/{id}/messages", How.NOTHING),
    ("/v1/threads/{id}/messages/{id}", How.NOTHING),
    ("/v1/threads/{id}/runs/{id}", How.NOTHING),  # changes its metadata
    ("/v1/chat/completions/{id}", How.NOTHING),  # changes its metadata
    ("/v1/responses/input_tokens", How.NOTHING),
    ("/v1/messages/count_tokens", How.NOTHING),
    ("/v1/tokenize", How.NOTHING),
    *((f"/v1/{name}", How.NOTHING) for name in ("assistants", "containers", "files", "skills", "uploads")),
    *((f"/v1/{name}/*", How.NOTHING) for name in ("assistants", "containers", "files", "skills", "uploads")),
    *((f"/v1/{name}", How.NOTHING) for name in ("organization", "vector_stores")),
    *((f"/v1/{name}/*", How.NOTHING) for name in ("organization", "vector_stores")),
    ("/v1/conversations", How.CONVERSATION),
    ("/v1/conversations/*", How.CONVERSATION),
    ("/v1/models/*", How.UNKNOWN),
)

_OF_UPGRADES = {REALTIME: How.IN_QUERY, RESPONSES: How.NOTHING}

_STORING = re.compile(r"batch|/(?:agents?|evals|evaluations|fine[_-]?tun\w*|predictions|trainings)(?:/|\Z)")
"""Parts of paths of other providers that name their model through something stored."""
_IN_OTHER_PLACE = re.compile(r":|/(?:\w*models?|publishers|deployments?|engines?|inference|run)/")
"""Parts of paths that name a model in a way of their own, whatever the body says: Google's
`/v1/tunedModels/{id}:generateContent`, Fireworks's `/v1/workflows/accounts/{id}/models/{id}/text_to_image`, DeepInfra's
`/v1/inference/{id}`, those of Vertex, Bedrock and Cloudflare.
"""
_BATCH_OF_MODEL = re.compile(r":[a-z]*batch", re.IGNORECASE)
"""A verb after a model whose requests name models themselves."""


class Target(NamedTuple):
    """The facts that a path tells: its endpoint, how that generates, and the model that it names itself."""

    endpoint: str
    how: How
    model: str | None


@remembered
def target_of(path: bytes) -> Target:
    """Return what a path tells. Raises Doubt for one that upstreams may read differently."""
    plain = plain_path(path)
    endpoint = endpoint_of(plain)
    return Target(endpoint, _how(endpoint, plain), model_named_by(plain))


def how(head: Head, target: Target) -> How:
    """Tell how a request to a target generates."""
    return _OF_UPGRADES.get(target.endpoint, How.UNKNOWN) if head.is_upgrade else target.how


def _how(endpoint: str, path: str) -> How:
    found = _in_table(endpoint)
    if _stores(endpoint, path) or (found is How.NAMED and _in_table(endpoint_of(path.lower())) is How.STORED):
        return How.STORED
    if model_named_by(path):
        return How.IN_PATH
    return How.UNKNOWN if found is How.NAMED and _IN_OTHER_PLACE.search(path.lower()) else found


def only_reads(head: Head) -> bool:
    """Tell whether a request's method generates nothing."""
    return head.method in _READING_METHODS and not head.is_upgrade


@functools.lru_cache(256)
def _in_table(endpoint: str) -> How:
    for pattern, found in _TABLE:
        start, star, end = pattern.partition("*")
        if endpoint == pattern or (star and endpoint.startswith(start) and endpoint.endswith(end)):
            return found
    return How.NAMED


def _stores(endpoint: str, path: str) -> bool:
    return (endpoint == OTHER and _STORING.search(path.lower()) is not None) or _BATCH_OF_MODEL.search(path) is not None
