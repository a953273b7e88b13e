"""A request's head, as far as it decides which models are asked for."""

import functools
import re
from collections.abc import Iterator
from enum import Enum, auto
from urllib.parse import unquote_to_bytes

from addon.reading.doubt import Doubt
from addon.reading.names import MODEL, checked_model, folded, names_models
from addon.remembered import remembered


class Head:
    """A request's head as it goes upstream. What is asked of it is found out once: at once, where it is as usual."""

    def __init__(
        self, method: str, target: bytes, fields: tuple[tuple[bytes, bytes], ...], *, is_upgrade: bool = False
    ) -> None:
        """Take the path and the query as they were sent. `is_upgrade` tells whether the head opens a WebSocket."""
        self.method = method
        self.path, _, self.query = target.partition(b"?")
        self.fields = fields
        self.is_upgrade = is_upgrade
        self.telling = [(role, value.strip()) for name, value in fields if (role := _role_of(name)) is not None]
        """The values of the headers that tell something of the body or its models, with what they tell."""
        has_usual_body = self.telling == _USUAL
        self.is_usual = has_usual_body and method == "POST" and not self.query and not is_upgrade
        """True if nothing but the path and the body can tell something."""
        if not self.query:
            self.models = ()
        if has_usual_body:
            self.media, self.coding = (Media.JSON, b""), None

    @functools.cached_property
    def media(self) -> tuple["Media", bytes]:
        """The media type of the body, and the boundary of a form. Raises Doubt for types that are read unlike."""
        return _media(self._values(Role.TYPE))

    @functools.cached_property
    def coding(self) -> str | None:
        """The content coding of the body; None for none. Raises Doubt for one that is read in several ways."""
        return _coding(self._values(Role.CODING))

    @functools.cached_property
    def models(self) -> tuple[str, ...]:
        """The models that the query names. Raises Doubt where readers of queries may differ on them."""
        return _models(self.query)

    def _values(self, role: "Role") -> list[bytes]:
        return [value for one, value in self.telling if one is role]


class Role(Enum):
    """The role of a header, if it tells something of the body or its models."""

    TYPE = auto()
    CODING = auto()
    ROUTE = auto()
    """It may choose other models than the body names."""


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
_USUAL = [(Role.TYPE, b"application/json")]
"""The telling headers of most requests."""
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


@remembered
def _plain_name(field: bytes) -> bytes:
    """Return the name of a header as the laxest server reads it: some take `_` for `-`."""
    return field.lower().replace(b"_", b"-")


def _media(types: list[bytes]) -> tuple[Media, bytes]:
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


def _coding(values: list[bytes]) -> str | None:
    codings = [value.lower() for value in values]
    if not codings or codings == [_IDENTITY]:
        return None
    if len(codings) == 1 and codings[0] in _CODINGS:
        return codings[0].decode()
    raise Doubt("The Content-Encoding is read in several ways. Send the body without one, or with gzip, br or zstd.")


def check_headers(head: Head) -> None:
    """Raise Doubt where a header may choose other models than the body names."""
    for role, _ in head.telling:
        if role is Role.ROUTE:
            raise Doubt(
                "A header of the request chooses models, or where it goes: it names a model, a fallback or a "
                "deployment, or is one of a router's. Leave it out, and name the model in the body."
            )


@remembered
def _role_of(name: bytes) -> Role | None:
    """Return the role of a header by its name; None for most."""
    plain = _plain_name(name)
    if _ROUTES.search(plain):
        return Role.ROUTE
    return {b"content-type": Role.TYPE, b"content-encoding": Role.CODING}.get(plain)


def overrides_method(head: Head) -> bool:
    """Tell whether a header may replace the method."""
    return any(_OVERRIDES.fullmatch(_plain_name(name)) for name, _ in head.fields)


def _models(query: bytes) -> tuple[str, ...]:
    found = [(name, value) for name, value in _parameters(query) if names_models(folded(_decoded(name)))]
    if not found:
        return ()
    folds = [folded(_decoded(name)) for name, _ in found]
    if len(set(folds)) < len(folds):
        raise Doubt("The query names a model twice. Send it once.")
    if b";" in query or not all(_PLAIN_NAME.fullmatch(name) for name, _ in found):
        raise Doubt("The query names a model in an unusual way. Send it as 'model=NAME', between '&'.")
    return tuple(checked_model(_value(value)) for _, value in found)


def model_in_query(head: Head) -> str | None:
    """Return the value of the parameter `model`; None without one. Call `Head.models` first: it checks them."""
    return next((_value(value) for name, value in _parameters(head.query) if name == MODEL.encode()), None)


def check_stored(head: Head) -> None:
    """Raise Doubt where the query refers to something stored upstream that chooses the model."""
    if head.query and not _STORED.isdisjoint(folded(_decoded(name)) for name, _ in _parameters(head.query)):
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
