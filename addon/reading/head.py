"""A request's head, as far as it decides which models are asked for."""

import functools
import re
from collections.abc import Iterator
from enum import Enum, auto
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from addon.reading.doubt import Doubt
from addon.reading.names import MODEL, checked_model, folded, names_models


class Head(NamedTuple):
    """A request's head as it goes upstream.

    `target` is the path and the query, as they were sent. `is_upgrade` tells whether it opens a WebSocket.
    """

    method: str
    target: bytes
    fields: tuple[tuple[bytes, bytes], ...]
    is_upgrade: bool = False

    @property
    def path(self) -> bytes:
        """The path as it was sent, without the query."""
        return self.target.partition(b"?")[0]

    @property
    def query(self) -> bytes:
        """The query as it was sent; empty without one."""
        return self.target.partition(b"?")[2]

    def values(self, name: bytes) -> list[bytes]:
        """Return the values of a header. Some servers take `_` in a name for `-`."""
        return [value.strip() for field, value in self.fields if field.lower().replace(b"_", b"-") == name]


class Media(Enum):
    """The media types that can be read."""

    JSON = auto()
    FORM = auto()
    NONE = auto()
    """There is no Content-Type."""


# In lower case, as all clients write them: some readers take no other.
_JSON = re.compile(
    rb"""application/(?:[a-z0-9.-]+\+)?json (?:[ ]?;[ ]?charset=(?:(?i:utf-?8)|"(?i:utf-?8)"))?""", re.VERBOSE
)
_FORM = re.compile(
    rb"""multipart/form-data[ ]?;[ ]?boundary= (?:([A-Za-z0-9'+_.-]{1,70}) | "([A-Za-z0-9'()+_./:=?-]{1,70})")""",
    re.VERBOSE,
)
_CODINGS = frozenset({b"br", b"gzip", b"x-gzip", b"zstd"})
"""`deflate` is none of them: some read zlib, others its raw data."""
_IDENTITY = b"identity"

# What chooses models beside the body, or where the request goes. By any word: Azure's
# x-ms-oai-image-generation-deployment, Azure ML's azureml-model-deployment, Vercel's ai-language-model-id, Helicone's
# helicone-fallbacks. By name: https://portkey.ai/docs/api-reference/inference-api/headers and
# https://docs.helicone.ai/helicone-headers/header-directory
_ROUTES = re.compile(
    rb"model|fallback|deployment"
    rb"|^(?:x-portkey-(?:config|custom-host|virtual-key)|helicone-(?:target-url|openai-api-base|prompt-id))$"
)
_OVERRIDES = re.compile(rb"x-http-method(?:-override)?|x-method-override")
"""Headers with which some servers replace the method."""

_STORED = frozenset({"agentid", "callid", "preset", "promptid"})
"""Folded names of parameters that refer to something stored upstream, which has a model: OpenAI's `call_id` joins a
call.
"""

_SEPARATORS = re.compile(rb"[&;]")
_PLAIN_NAME = re.compile(rb"[a-z_]+")


def media_of(head: Head) -> tuple[Media, bytes]:
    """Return the media type of the body, and the boundary of a form. Raises Doubt for types that are read unlike."""
    types = head.values(b"content-type")
    if not types:
        return Media.NONE, b""
    if len(types) == 1 and _JSON.fullmatch(types[0]):
        return Media.JSON, b""
    if len(types) == 1 and (form := _FORM.fullmatch(types[0])):
        return Media.FORM, form[1] or form[2]
    raise Doubt(
        "The Content-Type is no plain JSON or form. Send one 'Content-Type: application/json', or "
        "'multipart/form-data; boundary=...' with nothing else in it."
    )


def coding_of(head: Head) -> str | None:
    """Return the content coding of the body; None for none. Raises Doubt for one that is read in several ways."""
    codings = [value.lower() for value in head.values(b"content-encoding")]
    if not codings or codings == [_IDENTITY]:
        return None
    if len(codings) == 1 and codings[0] in _CODINGS:
        return codings[0].decode()
    raise Doubt("The Content-Encoding is read in several ways. Send the body without one, or with gzip, br or zstd.")


def check_headers(head: Head) -> None:
    """Raise Doubt where a header may choose other models than the body names."""
    if any(_routes(name) for name, _ in head.fields):
        raise Doubt(
            "A header of the request chooses models, or where it goes: it names a model, a fallback or a deployment, "
            "or is one of a router's. Leave it out, and name the model in the body."
        )


@functools.lru_cache(1024)
def _routes(name: bytes) -> bool:
    return _ROUTES.search(name.lower().replace(b"_", b"-")) is not None


def overrides_method(head: Head) -> bool:
    """Tell whether a header may replace the method."""
    return any(_OVERRIDES.fullmatch(name.lower().replace(b"_", b"-")) for name, _ in head.fields)


def models_in_query(head: Head) -> tuple[str, ...]:
    """Return the models that the query names. Raises Doubt where readers of queries may differ on them."""
    found = [(name, value) for name, value in _parameters(head.query) if names_models(folded(_decoded(name)))]
    if not found:
        return ()
    folds = [folded(_decoded(name)) for name, _ in found]
    if len(set(folds)) < len(folds):
        raise Doubt("The query names a model twice. Send it once.")
    if b";" in head.query or not all(_PLAIN_NAME.fullmatch(name) for name, _ in found):
        raise Doubt("The query names a model in an unusual way. Send it as 'model=NAME', between '&'.")
    return tuple(checked_model(_value(value)) for _, value in found)


def model_in_query(head: Head) -> str | None:
    """Return the value of the parameter `model`; None without one. Call `models_in_query` first: it checks them."""
    return next((_value(value) for name, value in _parameters(head.query) if name == MODEL.encode()), None)


def check_stored(head: Head) -> None:
    """Raise Doubt where the query refers to something stored upstream that chooses the model."""
    if not _STORED.isdisjoint(folded(_decoded(name)) for name, _ in _parameters(head.query)):
        raise Doubt(
            "The query refers to something that is stored upstream and has a model of its own: a call, an agent, a "
            "preset or a prompt. Leave it out."
        )


def _parameters(query: bytes) -> Iterator[tuple[bytes, bytes]]:
    for part in _SEPARATORS.split(query):
        name, _, value = part.partition(b"=")
        yield name, value


def _decoded(name: bytes) -> str:
    """Return a parameter's name decoded until it stays the same: an upstream may decode it more than once."""
    for _ in range(5):
        if b"%" not in name:
            break
        name = unquote_to_bytes(name)
    return name.decode("latin-1")


def _value(raw: bytes) -> str:
    value = unquote_to_bytes(raw).decode("latin-1")
    if "+" in value or "%" in value or not value.isascii():
        raise Doubt("The query spells a model in an unusual way. Send its name in ASCII, encoded once at most.")
    return value
