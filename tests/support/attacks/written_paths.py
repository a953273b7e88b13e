"""Spellings of paths meant to get past a list of refused endpoints, and servers that read them.

Nothing here knows how the gateway judges a path. A reader takes the steps that servers, frameworks and proxies before
them are known to take, in an order of its own, and routes the result.
"""

import random
import re
import unicodedata
from collections.abc import Callable, Sequence
from urllib.parse import unquote_to_bytes

REFUSED = re.compile(
    r"(?:/v1)+/(?:"
    r"realtime/(?:client_secrets|sessions|transcription_sessions|translations/client_secrets)"
    r"|realtime/calls(?:/[^/]+/(?:accept|hangup|refer|reject))?"
    r"|chatkit/sessions(?:/[^/]+/cancel)?"
    r"|(?:organization|organizations|projects|keys|auth)(?:/.*)?"
    r"|fine_tuning/checkpoints/[^/]+/permissions(?:/[^/]+)?"
    r"|api-keys|scoped-jwt|user"
    r")/?",
    re.DOTALL,
)
"""Endpoints that a server must not be brought to, as it routes them: the path that it has read, in small letters."""

TARGETS = [
    b"/v1/realtime/client_secrets", b"/v1/realtime/sessions", b"/v1/realtime/transcription_sessions",
    b"/v1/realtime/translations/client_secrets", b"/v1/realtime/calls", b"/v1/realtime/calls/rtc_1/accept",
    b"/v1/chatkit/sessions", b"/v1/chatkit/sessions/cksess_1/cancel", b"/v1/organization/admin_api_keys",
    b"/v1/organization", b"/v1/organizations/api_keys", b"/v1/projects/proj_1/roles", b"/v1/keys", b"/v1/keys/1",
    b"/v1/auth/keys", b"/v1/auth", b"/v1/fine_tuning/checkpoints/ft_1/permissions", b"/v1/api-keys", b"/v1/scoped-jwt",
    b"/v1/user",
]  # fmt: skip
HARMLESS = [
    b"/v1/models", b"/v1/models/org/name", b"/v1/chat/completions", b"/v1/files/file-1/content", b"/v1/responses",
    b"/v1/fine_tuning/jobs/ft_1/checkpoints", b"/v1/chatkit/threads", b"/v1/x",
]  # fmt: skip

type Step = Callable[[bytes], bytes]

_LETTERS = {"k": "\u212a", "s": "\u017f", "i": "\u0131"}
"""Letters that become these small ones, or have the same capital."""
_BLANKS = (b"%20", b"%09", b"%00", b"%0a", b"%c2%a0", b"%e2%80%8b", b".", b"%2e", b"%0d")
_SLASHES = (b"/", b"%2f", b"%2F", b"%5c", b"%5C", b"%c0%af", b"%u002f", b"%ef%bc%8f")
_DOTS = (b".", b"%2e", b"%2E", b"%252e", b"%25252E", b"%c0%ae", b"%u002e", b"%ef%bc%8e")
_TAILS = (
    b"/",
    b"?x",
    b"%3fx",
    b"%23x",
    b".json",
    b";a=b",
    b"%3Bjsessionid=1",
    b"/.",
    b"/%252e",
    b"//",
    b"%2f",
    b"%00x",
    b"%0ax",
    b"%20HTTP/1.1%0d%0ax:y",
)


def write(chance: random.Random) -> bytes:
    """Write a path, mostly of a refused endpoint, in one of many ways."""
    target = chance.choice(TARGETS if chance.random() < 0.8 else HARMLESS)
    segments = target.split(b"/")[2:]
    written = [_segment(segment, chance) for segment in segments]
    if chance.random() < 0.3:
        _detour(written, chance)
    path = b"/v1/" + written[0] + b"".join(_slash(chance) + segment for segment in written[1:])
    if chance.random() < 0.3:
        path += chance.choice(_TAILS)
    for _ in range(chance.choice((0, 0, 0, 0, 1, 1, 2))):
        path = _encoded_again(path, chance)
    return path


def _segment(segment: bytes, chance: random.Random) -> bytes:
    how = chance.random()
    if how < 0.35:
        return segment
    if how < 0.45:
        return bytes(byte ^ 0x20 if 0x61 <= byte | 0x20 <= 0x7A and chance.random() < 0.5 else byte for byte in segment)
    if how < 0.55:
        return segment + chance.choice((b";", b";x=1", b"%3b", b"%3Bx", b"%253b", *_BLANKS))
    if how < 0.6:
        return chance.choice(_BLANKS[:4]) + segment
    if how < 0.65:
        at = chance.randrange(len(segment) + 1)
        return segment[:at] + chance.choice(_BLANKS[2:]) + segment[at:]
    share = chance.choice((0.1, 0.3, 1.0))
    return b"".join(_letter(byte, chance) if chance.random() < share else bytes([byte]) for byte in segment)


def _letter(byte: int, chance: random.Random) -> bytes:
    how, character = chance.random(), chr(byte)
    if how < 0.6:
        return (b"%%%02x" if chance.random() < 0.5 else b"%%%02X") % byte
    if how < 0.7:
        return b"%%%02x" % (byte ^ 0x20 if character.isalpha() else byte)
    if how < 0.8:
        return b"%%u%04x" % byte
    if how < 0.87:
        return b"%%c%x%%%02x" % (byte >> 6, 0x80 | byte & 0x3F)
    other = _LETTERS.get(character) if how > 0.95 else chr(byte + 0xFEE0)
    return b"".join(b"%%%02x" % part for part in (other or character).encode())


def _slash(chance: random.Random) -> bytes:
    if chance.random() < 0.6:
        return b"/"
    slash = chance.choice(_SLASHES)
    return slash * chance.choice((1, 1, 1, 2)) if slash != b"/" else chance.choice((b"/", b"//", b"/;/", b"/%20/"))


def _detour(written: list[bytes], chance: random.Random) -> None:
    """Go somewhere else and back, or nowhere."""
    dot = chance.choice(_DOTS)
    at = chance.randrange(len(written) + 1)
    ways = ([dot], [b"x", dot + dot], [b"models", dot + chance.choice(_DOTS)], [dot + dot, b"v1"], [b"v1"])
    way = list(chance.choice(ways))
    if chance.random() < 0.2:
        way[-1] += chance.choice((b";", b"%3b", b"%20", b"%00"))
    written[at:at] = way


def _encoded_again(path: bytes, chance: random.Random) -> bytes:
    """Encode some of the percent signs, or some other characters."""
    share = chance.choice((0.2, 1.0))
    again = re.sub(rb"%", lambda _: b"%25" if chance.random() < share else b"%", path[4:])
    if b"%" not in again:
        again = b"".join(b"%%25%02x" % byte if chance.random() < 0.2 else bytes([byte]) for byte in again)
    return path[:4] + again


def _decode_long(path: bytes) -> bytes:
    """Decode %uXXXX, as IIS did, and then the rest."""
    long = re.sub(rb"(?i)%u([0-9a-f]{4})", lambda found: chr(int(found[1], 16)).encode("utf-8", "ignore"), path)
    return unquote_to_bytes(long)


def _decode_overlong(path: bytes) -> bytes:
    """Take two bytes for one of ASCII where UTF-8 forbids it."""
    return re.sub(rb"[\xc0\xc1][\x80-\xbf]", lambda two: bytes([(two[0][0] & 1) << 6 | two[0][1] & 0x3F]), path)


def _best_fit(path: bytes) -> bytes:
    """Take characters for those of ASCII that they are compatible with."""
    return unicodedata.normalize("NFKC", path.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


def _invisible_dropped(path: bytes) -> bytes:
    return re.sub(rb"[\x00-\x1f\x7f]|\xe2\x80\x8b", b"", path)


def _cut_at_nul(path: bytes) -> bytes:
    return path.partition(b"\0")[0]


def _cut_at_line_end(path: bytes) -> bytes:
    """Write a path into a request line, and read that."""
    return re.split(rb"[ \r\n]", path, maxsplit=1)[0]


def _cut_at_query(path: bytes) -> bytes:
    return re.split(rb"[?#]", path, maxsplit=1)[0]


def _backslashes_turned(path: bytes) -> bytes:
    return path.replace(b"\\", b"/")


def _slashes_merged(path: bytes) -> bytes:
    return re.sub(rb"/+", b"/", path)


def _parameters_dropped(path: bytes) -> bytes:
    return re.sub(rb";[^/]*", b"", path)


def _trimmed(path: bytes) -> bytes:
    """Take blanks off segments, and dots off their ends, as Windows does, but for those of dots alone."""
    names = (segment.decode("utf-8", "surrogateescape").strip() for segment in path.split(b"/"))
    trimmed = "/".join(name if set(name) <= {"."} else name.rstrip(". ") for name in names)
    return trimmed.encode("utf-8", "surrogateescape")


def _format_dropped(path: bytes) -> bytes:
    return re.sub(rb"\.[a-z]+$", b"", path)


def _dots_resolved(path: bytes) -> bytes:
    """RFC 3986, section 5.2.4."""
    kept: list[bytes] = []
    for segment in path.split(b"/")[1:]:
        if segment == b"..":
            del kept[-1:]
        elif segment != b".":
            kept.append(segment)
    return b"/" + b"/".join(kept)


STEPS: Sequence[Step] = (
    _invisible_dropped, _cut_at_nul, _cut_at_line_end, _cut_at_query, _backslashes_turned, _slashes_merged,
    _parameters_dropped, _trimmed, _format_dropped, _dots_resolved, _decode_overlong, _best_fit,
)  # fmt: skip


class Reader:
    """A server and the proxies before it. Reads a path in rounds: each round decodes, and then takes some steps."""

    def __init__(self, chance: random.Random) -> None:
        self._rounds: list[list[Step]] = []
        steps = chance.sample(STEPS, chance.randrange(len(STEPS)))
        for _ in range(chance.choice((1, 1, 1, 2, 2, 3, 4))):
            chance.shuffle(steps)
            taken = steps[: chance.randrange(len(steps) + 1)] if chance.random() < 0.3 else steps
            self._rounds.append([chance.choice((unquote_to_bytes, unquote_to_bytes, _decode_long)), *taken])
        self._compared: Callable[[str], str] = chance.choice(
            (str, str.lower, str.casefold, lambda text: text.upper().lower())
        )

    def is_refused(self, path: bytes) -> bool:
        """Tell whether this server routes a path to a refused endpoint."""
        path = path.partition(b"?")[0]
        for steps in self._rounds:
            for step in steps:
                path = step(path)
        return REFUSED.fullmatch(self._compared(path.decode("utf-8", "ignore"))) is not None
