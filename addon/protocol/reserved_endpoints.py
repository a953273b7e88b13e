"""Recognises reserved endpoints: those of the provider's API that no token may reach, however their path is written.

A project's key opens more of the provider's API than a token should. Some endpoints answer with a credential of the
provider's own, or begin a session that bypasses the gateway: both work without limits, ledger and revocation. Others
manage the account that the key belongs to. The store refuses them (`store/admission/`), unless a policy writes out the
part of the path that is refused.

An upstream may normalise a path: decode it once or more often, drop parameters, blanks or dots, or fold letters. A path
that is a reserved endpoint in any of these readings is reserved.
"""

import itertools
import re
import unicodedata
from collections.abc import Iterator
from urllib.parse import unquote_to_bytes

from addon.protocol.endpoints import RESOURCES

# Paths under /v1 without the ids in them; all below is reserved too, for every method. The words are read as `_words`
# reads them: "_", "-" and the case make no difference.
_RESERVED = (
    # These answer with a credential that works past the gateway.
    "realtime/client_secrets",  # OpenAI, xAI; also realtime/translations/client_secrets
    "realtime/sessions",  # OpenAI, until 2026
    "realtime/transcription_sessions",  # OpenAI
    "chatkit/sessions",  # OpenAI; cancelling one answers with its secret as well
    "auth_tokens",  # Gemini: ephemeral tokens
    "oauth",  # Anthropic, OpenRouter: exchange of tokens
    "tunnels",  # Anthropic: reveals and replaces tokens of tunnels
    "scoped-jwt",  # DeepInfra
    "single-use-token",  # ElevenLabs
    "convai/conversation/get-signed-url",  # ElevenLabs
    "convai/conversation/token",  # ElevenLabs
    # These begin, answer or move a call, whose media the gateway does not see.
    "realtime/calls",  # OpenAI, Azure: WebRTC and SIP
    "realtimertc",  # Azure, preview
    # These make, list or change keys, or quote the project's own.
    "key",  # OpenRouter
    "keys",  # OpenRouter
    "api-key",  # xAI
    "api-keys",  # Portkey, Vercel, Baseten
    "api-tokens",  # DeepInfra
    "auth",  # OpenRouter: keys; Deepgram: temporary tokens
    "byok",  # OpenRouter: the account's keys of other providers
    "integrations",  # Portkey: the same
    "virtual-keys",  # Portkey: the same
    "secret-references",  # Portkey
    "service-accounts",  # ElevenLabs
    "user",  # ElevenLabs: answers with the API key of the user
    "accounts/users",  # Fireworks: users with their keys
    "webhooks",  # Replicate: answers with the secret that signs webhooks
    # These manage the account: its projects, members, limits, bills, certificates, logs.
    "organization",  # OpenAI's admin API
    "organizations",  # Anthropic's admin API
    "projects",  # OpenAI: roles; Deepgram: keys and members
    "fine_tuning/checkpoints/permissions",  # OpenAI, for admin keys: who else may use a model
    "dashboard",  # OpenAI: bills
    "credits",  # OpenRouter: buys credits
    "guardrails",  # OpenRouter: limits of keys and members
    "observability/destinations",  # OpenRouter: where a copy of all requests goes
    "scim",  # OpenRouter, Portkey: members
    "workspace",  # ElevenLabs: members, webhooks, logs
    "workspaces",  # OpenRouter: members, budgets; ElevenLabs: keys
    "teams",  # Baseten, nexos.ai: keys
    "admin",  # Portkey: members
    "audit-logs",  # Portkey
)

_SOCKETS = frozenset({"realtime", "live"})
"""WebSockets are opened under these, with GET. Any POST to them makes a credential or begins a call."""

_READS = frozenset({"GET", "HEAD"})

MAX_DECODINGS = 5
"""Times that a path is decoded. A path that is encoded more often is reserved: no server needs that."""

_IGNORED = re.compile(r"[_-]")
_WORD = re.compile(r"[a-z0-9]+")  # ended by all that a server may take for its end: "/", ";", ".", a blank
_ODD = re.compile(r"[^ -~]+")
_READ_ALIKE = re.compile(rb"(?:/[\w.:-]+)+/?", re.ASCII)
"""Paths in which there is nothing to decode or to drop."""
_LEAST = len(["", "v1", "word"])
"""Segments of the shortest reserved path, with the empty one in front of its slash."""

_ENDS = [dict.fromkeys(map(ord, ends), "/") for ends in ("\0", "\r\n", "\0\r\n")]
_CLIMBS = re.compile(r"(?<![\w.:-])\.\.", re.ASCII)  # a segment ".."

# Overlong UTF-8 of ASCII characters, and %uXXXX: some servers decode both.
_OVERLONG = re.compile(rb"[\xc0\xc1][\x80-\xbf]|\xe0[\x80-\x9f][\x80-\xbf]|\xf0[\x80-\x8f][\x80-\xbf]{2}")
_LONG_ESCAPE = re.compile(rb"%u([0-9a-f]{4})", re.IGNORECASE)


def is_reserved(method: str, path: bytes) -> bool:
    """Tell whether a request is for a reserved endpoint. The path is the client's, under /v1/, without its query."""
    if _PLAIN.fullmatch(path):
        return False
    for _ in range(MAX_DECODINGS):
        encoded, path = path, _decoded(path)
        if any(_broken_rules(method, reading) for reading in _readings(path)):
            return True
        if path == encoded or b"%" not in path:
            return False
    return True


def reserved_part(method: str, path: bytes) -> str | None:
    """Return the part of a request's path for which its endpoint is reserved, from its start; None if it is not.

    Empty where upstreams may read the path variously, so that no part can be told.
    """
    if not is_reserved(method, path):
        return None
    if not _READ_ALIKE.fullmatch(path):
        return ""
    segments = path.decode("ascii").rstrip("/").split("/")
    parts = ["/".join(segments[:count]) for count in range(_LEAST, len(segments) + 1)]
    rules = _broken_rules(method, parts[-1].lower())
    return next(part for part in parts if _broken_rules(method, part.lower()) == rules)


def _readings(path: bytes) -> Iterator[str]:
    """Yield the readings of a path, in ASCII and lower case.

    Servers ignore characters that are not printable ASCII; some end a path at NUL, or at a line end.
    """
    text = _OVERLONG.sub(_shortest, path).decode("utf-8", "replace").upper()
    text = unicodedata.normalize("NFKD", text).lower()  # as servers may compare letters: K for the sign of Kelvin
    yield _ODD.sub("", text)
    if _ODD.search(text):
        for ends in _ENDS:
            yield _ODD.sub("", text.translate(ends))


def _broken_rules(method: str, path: str) -> set[frozenset[str]]:
    """Return the rules that make a path reserved, each as its words; none for an endpoint that is open."""
    words = [*itertools.dropwhile("v1".__eq__, _words(path))]
    found = set(words)
    # ".." may lead from anywhere to anywhere, so that any of the words may be the first.
    firsts = found if _CLIMBS.search(path) else set(words[:1])
    rules = {rest | {first} for first in firsts & _RULES.keys() for rest in _RULES[first] if rest <= found}
    if _SOCKETS & firsts and method not in _READS:
        rules.add(frozenset(words[:2]))  # whatever is called there: all of it is to be written out
    return rules


def _words(path: str) -> list[str]:
    return _WORD.findall(_IGNORED.sub("", path))


def _decoded(path: bytes) -> bytes:
    return unquote_to_bytes(_LONG_ESCAPE.sub(lambda found: chr(int(found[1], 16)).encode("utf-8", "replace"), path))


def _shortest(overlong: re.Match[bytes]) -> bytes:
    lead, *others = overlong[0]
    code = lead & 0x0F
    for byte in others:
        code = code << 6 | byte & 0x3F
    return chr(code).encode("utf-8", "replace")


def _rules() -> dict[str, list[frozenset[str]]]:
    """Return, by the first word of the reserved paths, the sets of words that complete it to one."""
    rules: dict[str, list[frozenset[str]]] = {}
    for path in _RESERVED:
        first, *rest = _words(path)
        rules.setdefault(first, []).append(frozenset(rest))
    return rules


_RULES = _rules()

# Nearly all requests: a resource without reserved endpoints, followed by characters that every server reads alike.
_PLAIN = re.compile(
    rb"/v1/(?:%s)(?:/[A-Za-z0-9_:-][A-Za-z0-9_.:-]*)*/?"
    % "|".join(sorted(name for name in RESOURCES if not _RULES.keys() & set(_words(name)[:1]))).encode()
)
