"""Bad requests to the management API: each gets one shape of error, writes nothing, leaks nothing."""

import contextlib
import json
import socket
import sqlite3
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.gateway.gateway import MANAGEMENT_TOKEN, Gateway
from support.gateway.processes import DEADLINE

from manage_api.contract import MAX_BODY
from manage_api.server import MAX_HEADERS

SECRET = "sk-of-a-request-that-is-refused"
CHUNKED = "Transfer-Encoding: chunked"
UNKNOWN = "3f2b8a9e-6c1d-4e57-9a40-0d9b7c5f1e23"
ARABIC = "\u0663" + UNKNOWN[1:]
"""A UUID to Python alone, which accepts digits of any script."""

PROJECT_ID, TOKEN_ID, VALUE = (name.center(36, "_") for name in ("project", "token", "value"))
"""Placeholders for values of the store, of the same length; they are replaced before sending."""

type Answer = tuple[int, dict[str, str], bytes]


_OF_HOUSEKEEPING = ('INSERT INTO "total_mark"', 'INSERT INTO "process_figures"')


class Target:
    """A management process whose store holds a project and a token."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        project = gateway.make_project()
        self.token = gateway.make_token(project["id"], max_requests=7)
        self._names = {PROJECT_ID: project["id"], TOKEN_ID: self.token["id"], VALUE: self.token["token"]}
        self._connection = sqlite3.connect(f"file:{gateway.data}/llm-proxy.db?mode=ro", uri=True)
        self._version = -1
        self._rows: list[str] = []
        self.address = "127.0.0.1"
        """The client's: from each, a few wrong tokens are refused at once, and further ones slowed down."""

    def close(self) -> None:
        self._connection.close()

    def rows(self) -> list[str]:
        """Read every row of every table, unless SQLite tells that no other connection has written since.

        Those of the housekeeping are left out: it moves its marks by itself.
        """
        ((version,),) = self._connection.execute("PRAGMA data_version")
        if version != self._version:
            lines = self._connection.iterdump()
            self._version, self._rows = version, [line for line in lines if not line.startswith(_OF_HOUSEKEEPING)]
        return self._rows

    def ask(self, raw: bytes) -> Answer:
        """Send bytes on a connection of their own and return the one answer, up to the end of the connection."""
        for name, value in self._names.items():
            raw = raw.replace(name.encode(), value.encode())
        port, source = self.gateway.manage_port, (self.address, 0)
        with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE, source_address=source) as sock:
            sock.sendall(raw)
            received = bytearray()
            while data := sock.recv(65536):
                received += data
        head, _, body = bytes(received).partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return int(status.split()[1]), headers, body

    def check_refused(self, raw: bytes, status: int, code: str) -> None:
        before = self.rows()
        found, headers, body = self.ask(raw)
        error = json.loads(body)
        assert (found, error["code"]) == (status, code), error
        assert set(error) - {"description"} == {"error", "code", "message"}
        assert error["error"] == error["message"]
        assert SECRET not in body.decode()
        assert self.token["token"] not in body.decode()
        assert headers["content-type"] == "application/json"
        assert int(headers["content-length"]) == len(body)
        assert headers["x-request-id"] == headers["x-llm-proxy-request-id"]
        assert uuid.UUID(headers["x-request-id"]).version == 7
        assert self.rows() == before


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    gateway = Gateway(tmp_path_factory.mktemp("bad-input"), "http://127.0.0.1:9")
    try:
        gateway.start_management()
        with contextlib.closing(Target(gateway)) as target:
            yield target
    finally:
        gateway.stop()


def request(line: str, *headers: str, body: bytes | str | None = None, authorization: str | None = None) -> bytes:
    """Write a request that is well-formed unless an argument says otherwise; `headers` come last."""
    content = body.encode() if isinstance(body, str) else body
    lines = [f"{line} HTTP/1.1", "Host: manage", "Connection: close"]
    lines += [f"Authorization: {authorization or f'Bearer {MANAGEMENT_TOKEN}'}"] if authorization != "" else []
    lines += [] if content is None else [f"Content-Length: {len(content)}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + (content or b"")


def json_request(line: str, body: bytes | str) -> bytes:
    return request(line, "Content-Type: application/json", body=body)


PROJECTS, PROJECT, TOKENS, TOKEN, ROTATE = WRITES = (
    "POST /manage/projects",
    f"PATCH /manage/projects/{PROJECT_ID}",
    "POST /manage/tokens",
    f"PATCH /manage/tokens/{TOKEN_ID}",
    f"POST /manage/tokens/{TOKEN_ID}/rotate",
)
GOOD = {
    PROJECTS: f'{{"name": "n", "api_key": "{SECRET}"}}',
    PROJECT: f'{{"name": "n", "api_key": "{SECRET}", "is_active": true}}',
    TOKENS: f'{{"project_id": "{PROJECT_ID}", "max_requests": 9}}',
    TOKEN: f'{{"is_active": true, "project_id": "{PROJECT_ID}", "max_requests": 9}}',
    ROTATE: '{"grace_seconds": 9}',
}
"""A body that each of these operations accepts."""


def in_chunks(body: str) -> bytes:
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body.encode())


def no_json(good: str) -> list[bytes]:
    """Return bodies that would be good if they were JSON."""
    raw = good.encode()
    whole = [
        b"  ",
        raw[:-1],
        raw + b" x",
        raw + b" " + raw,
        good.replace('"', "'").encode(),
        raw[:-1] + b",}",
        raw + b" // x",
        f"name=n&api_key={SECRET}".encode(),
        good.encode("utf-8-sig"),
        good.encode("utf-16"),
        good.encode("utf-32"),
        raw.replace(b'{"', b'{"\\udfff": 1, "'),
        raw.replace(b'{"', b'{"x": [{"y": "\\udfff"}], "'),
        b"[" * 200_000,
        b'{"name":' * 100_000,
        raw[:-1] + b', "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ]
    texts = [good.replace('"n"', '"\u00e9"').encode("latin-1")]
    texts += [
        raw.replace(b'"n"', text) for text in (b'"\xc0\xaf"', b'"\xed\xa0\x80"', b'"\\ud800"', b'"a\nb"', b'"a\0b"')
    ]
    numbers = [raw.replace(b"9", number) for number in (b"NaN", b"-Infinity", b"09", b"+9", b"0x9", b"9" * 5000)]
    return [*whole, *(texts if '"n"' in good else []), *(numbers if "9" in good else [])]


NO_OBJECT = ("null", "true", "1", "1e400", '"text"', "[]", '[{"name": "n", "api_key": "k"}]', "[[[[]]]]")

INVISIBLE = ("", " ", "\t\r\n", "\u00a0", "\u2003\u3000", "\u200b", "\u200d\ufeff\u2060", "\u00ad", "\u3164", "\x1f")
BAD_NAMES = (*INVISIBLE, "\0", "a\0b", "a\0", "n" * 256, "\U0001f600" * 256)
BAD_NAMES_OF_TOKENS = (
    *(*INVISIBLE, "\0", "a\0b", "n" * 101, "\U0001f600" * 101, "a\n", "a\r\nb", "a\tb", "\x1b[2Ja", "a\x7f", "a\x85"),
    *("a\u2028", "\u202ea", VALUE, f"Ann {VALUE}", f"Ann {SECRET}"),
)
BAD_KEYS = (
    *("", " ", "a b", "k\n", "k\r\nX-Evil: 1", "\rk", "k\t", "k\0", "k\x7f", "\u00e9", "k\u2028", "k\u200b", "\uff4b"),
    "k" * 4097,
)
NO_TEXT = ("null", "true", "0", "1.5", "[]", '["n"]', "{}", '{"n": "n"}')
NO_COUNT = (
    *("-1", "-9223372036854775809", "9223372036854775808", "1e400", "-1e400", "1.0", "1e3", "0.5", "-0.0", "9" * 4000),
    *("true", "false", "null", '"1"', '""', "[]", "[1]", "{}"),
)
NO_FLAG = ('"true"', '"false"', "1", "0", "1.0", "null", "[]", "{}", '""')
NO_UUID = (
    *("", "x", f"{PROJECT_ID}\n", f" {PROJECT_ID}", f"{PROJECT_ID}x", f"{{{PROJECT_ID}}}", f"urn:uuid:{PROJECT_ID}"),
    *(
        f"{PROJECT_ID},{PROJECT_ID}",
        f"{PROJECT_ID}\u0000",
        UNKNOWN.replace("-", ""),
        ARABIC,
        f"{UNKNOWN[:-1]}g",
        "' OR 1=1",
    ),
)
NO_TIME = (
    *("", "x", "2040-01-01", "2040-01-01T00:00:00", "2040-02-30T00:00:00Z", "2040-01-01 00:00:00Z", "20400101T000000Z"),
    *("2040-01-01T00:00:00Z\n", " 2040-01-01T00:00:00Z", "2040-01-01T24:00:00Z", "\u0662040-01-01T00:00:00Z"),
)
UNKNOWN_FIELDS = (
    *("max_request", "maxRequests", "MAX_REQUESTS", "max_requests ", "expires", "Name", "apiKey", "status", "", "\0"),
    *("\u202e", "__proto__", SECRET, UNKNOWN, VALUE, "x" * 100_000),
)

BAD_FIELDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "name": ((PROJECTS, PROJECT), (*map(json.dumps, BAD_NAMES), *NO_TEXT)),
    "api_key": ((PROJECTS, PROJECT), (*map(json.dumps, BAD_KEYS), *NO_TEXT)),
    "is_active": ((PROJECT, TOKEN), NO_FLAG),
    "max_requests": ((TOKENS, TOKEN), NO_COUNT),
    "expires_in_days": ((TOKENS, TOKEN), (*NO_COUNT, "2880001", "2900000")),
    "grace_seconds": ((ROTATE,), (*NO_COUNT, "2592001", "9223372036854775807")),
    "expires_at": ((TOKENS, TOKEN), (*map(json.dumps, NO_TIME), "true", "0", "2208988800", "1e400", "[]", "{}")),
    "project_id": ((TOKENS,), (*map(json.dumps, NO_UUID), *NO_TEXT)),
}


@pytest.mark.parametrize("line", WRITES)
def test_bodies_other_than_a_json_object_are_rejected(target: Target, line: str) -> None:
    for body in (*no_json(GOOD[line]), *map(str.encode, NO_OBJECT)):
        target.check_refused(json_request(line, body), 400, "invalid_request")


@pytest.mark.parametrize("field", BAD_FIELDS)
def test_bad_fields_are_rejected(target: Target, field: str) -> None:
    lines, values = BAD_FIELDS[field]
    for line in lines:
        for value in values:  # the last of a repeated field counts
            target.check_refused(json_request(line, f'{GOOD[line][:-1]}, "{field}": {value}}}'), 400, "invalid_request")


@pytest.mark.parametrize("line", WRITES)
def test_unknown_fields_are_rejected(target: Target, line: str) -> None:
    for field in UNKNOWN_FIELDS:
        target.check_refused(json_request(line, f"{GOOD[line][:-1]}, {json.dumps(field)}: 1}}"), 400, "invalid_request")


def test_bad_token_names_are_rejected(target: Target) -> None:
    for line in (TOKENS, TOKEN):
        for value in (*map(json.dumps, BAD_NAMES_OF_TOKENS), *(each for each in NO_TEXT if each != "null")):
            target.check_refused(json_request(line, f'{GOOD[line][:-1]}, "name": {value}}}'), 400, "invalid_request")


NULL_AT_FIRST = ("last_used_at", "previous_expires_at")


def test_changed_read_only_fields_are_rejected(target: Target) -> None:
    for line, fields in (
        (PROJECT, ("id", "created_at", "updated_at", "api_key_updated_at", "usage")),
        (TOKEN, ("id", "token", "project_id", "request_count", "created_at", "usage", *NULL_AT_FIRST)),
    ):
        for field in fields:
            for value in (*(["null"] * (field not in NULL_AT_FIRST)), "1", "true", f'"{SECRET}"', f'"{UNKNOWN}"', "{}"):
                body = f'{GOOD[line][:-1]}, "{field}": {value}}}'
                target.check_refused(json_request(line, body), 400, "invalid_request")


def test_two_expiries_and_a_past_one_are_rejected(target: Target) -> None:
    for line in (TOKENS, TOKEN):
        for time in ('"2040-01-01T00:00:00Z"', "null"):
            body = f'{GOOD[line][:-1]}, "expires_at": {time}, "expires_in_days": 30}}'
            target.check_refused(json_request(line, body), 400, "invalid_request")
    body = f'{GOOD[TOKENS][:-1]}, "expires_at": "2020-01-01T00:00:00Z"}}'
    target.check_refused(json_request(TOKENS, body), 400, "invalid_request")


def test_admin_keys_are_rejected(target: Target) -> None:
    for line in (PROJECTS, PROJECT):
        for key in ("sk-admin-x", "SK-ADMIN-x", " sk-admin-x", "\tsk-admin-x"):
            body = f'{GOOD[line][:-1]}, "api_key": {json.dumps(key)}}}'
            target.check_refused(json_request(line, body), 400, "invalid_request")


def test_unexpected_bodies_are_rejected(target: Target) -> None:
    for line in (
        "GET /manage/tokens",
        f"DELETE /manage/tokens/{TOKEN_ID}",
        f"DELETE /manage/projects/{PROJECT_ID}",
        f"POST /manage/projects/{PROJECT_ID}/tokens/revoke",
    ):
        for body in ("null", "[]", "x", f'{{"token_ids": ["{UNKNOWN}"]}}'):
            target.check_refused(json_request(line, body), 400, "invalid_request")
            target.check_refused(request(line, CHUNKED) + in_chunks(body), 400, "invalid_request")


def test_unknown_query_parameters_are_rejected(target: Target) -> None:
    for line in (
        *WRITES,
        "GET /manage/tokens",
        "HEAD /manage/projects",
        f"DELETE /manage/tokens/{TOKEN_ID}",
        f"DELETE /manage/projects/{PROJECT_ID}",
        f"POST /manage/projects/{PROJECT_ID}/tokens/revoke",
    ):
        for query in ("dry_run=true", "x", "=", "activeonly=true", f"{SECRET}=1", f"%00={SECRET}", "%ff=1"):
            raw = request(f"{line}?{query}", "Content-Type: application/json", body=GOOD.get(line))
            if line.startswith("HEAD"):
                assert target.ask(raw)[0] == 400
            else:
                target.check_refused(raw, 400, "invalid_request")


def test_an_escaped_field_name_is_checked_too(target: Target) -> None:
    for line in (PROJECTS, PROJECT):
        target.check_refused(json_request(line, f'{GOOD[line][:-1]}, "n\\u0061me": ""}}'), 400, "invalid_request")


@pytest.mark.parametrize("body", ["{}", '{"name": "n"}', '{"api_key": "k"}', '{"Name": "n", "API_KEY": "k"}'])
def test_missing_fields_are_rejected(target: Target, body: str) -> None:
    for line in (PROJECTS, TOKENS):
        target.check_refused(json_request(line, body), 400, "invalid_request")


HEADERS: dict[str, tuple[str, ...]] = {
    "no type": (),
    "empty type": ("Content-Type:",),
    "text": ("Content-Type: text/plain",),
    "form": ("Content-Type: application/x-www-form-urlencoded",),
    "multipart": ("Content-Type: multipart/form-data; boundary=x",),
    "almost": ("Content-Type: application/jsonx",),
    "suffix": ("Content-Type: application/hal+json",),
    "text/json": ("Content-Type: text/json",),
    "two types": ("Content-Type: application/json", "Content-Type: text/plain"),
    "one type twice": ("Content-Type: application/json, application/json",),
    "UTF-16": ("Content-Type: application/json; charset=utf-16",),
    "Latin-1": ('Content-Type: application/json; charset="ISO-8859-1"',),
    "unknown charset": ("Content-Type: application/json; charset=klingon",),
    "UTF-7": ("Content-Type: application/json; charset=utf-7",),
    "compressed": ("Content-Type: application/json", "Content-Encoding: gzip"),
    "compressed twice": ("Content-Type: application/json", "Content-Encoding: identity, gzip"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_bodies_of_another_content_type_are_415(target: Target, name: str) -> None:
    for line in WRITES:
        target.check_refused(request(line, *HEADERS[name], body=GOOD[line]), 415, "unsupported_media_type")


@pytest.mark.parametrize("line", [line for line in WRITES if line != ROTATE])
def test_a_missing_body_is_rejected(target: Target, line: str) -> None:
    for headers in ([], ["Content-Length: 0"], ["Expect: 100-continue"], ["Expect: 100-continue", "Content-Length: 0"]):
        target.check_refused(request(line, "Content-Type: application/json", *headers), 400, "invalid_request")
    chunked = request(line, "Content-Type: application/json", "Transfer-Encoding: chunked") + b"0\r\n\r\n"
    target.check_refused(chunked, 400, "invalid_request")


BIG = MAX_BODY + 1
SIZES: dict[str, tuple[tuple[str, ...], bytes]] = {
    "sent": ((f"Content-Length: {BIG}",), b" " * BIG),
    "in one chunk": ((CHUNKED,), b"%x\r\n%b\r\n0\r\n\r\n" % (BIG, b" " * BIG)),
    "in many chunks": ((CHUNKED,), b"10000\r\n%b\r\n" % (b" " * 65536) * 17 + b"0\r\n\r\n"),
    "announced": ((f"Content-Length: {BIG}", "Expect: 100-continue"), b""),
    "announced as huge": ((f"Content-Length: {1000 * BIG}", "Expect: 100-continue"), b""),
    "huge": ((f"Content-Length: {1000 * BIG}",), b""),
    "beyond all numbers": ((f"Content-Length: {10**4000}",), b""),
}


@pytest.mark.parametrize("name", SIZES)
def test_bodies_that_are_too_large_are_413(target: Target, name: str) -> None:
    headers, body = SIZES[name]
    for line in (PROJECTS, TOKEN):
        raw = request(line, "Content-Type: application/json", *headers) + body
        target.check_refused(raw, 413, "request_too_large")


def test_good_input_is_accepted(target: Target) -> None:
    """Each way to send a body works with this good one: the other tests reject for the fault that they name."""
    for line in WRITES:
        assert target.ask(json_request(line, GOOD[line]))[0] == (201 if line in {PROJECTS, TOKENS} else 200)
    chunked = request(TOKEN, "Content-Type: application/json; charset=UTF-8", CHUNKED, "Content-Encoding: identity")
    assert target.ask(chunked + in_chunks(GOOD[TOKEN]))[0] == 200
    for query in ("", f"?{ID}", f"?activeOnly=true&{ID}"):
        assert target.ask(request(f"GET /manage/tokens{query}"))[0] == 200
    status, _, rest = target.ask(
        request(TOKEN, "Content-Type: application/json", "Expect: 100-continue", body='{"max_requests": 7}')
    )
    assert status == 100
    assert rest.startswith(b"HTTP/1.1 200 ")


NO_HTTP: dict[str, bytes] = {
    "no request": b"NONSENSE\r\n\r\n",
    "TLS": bytes.fromhex("16030100c8010000c40303") + bytes(50) + b"\r\n\r\n",
    "unknown version": b"GET /health HTTP/9\r\n\r\n",
    "small letters": request("post /manage/projects"),
    "method of signs": request("G@T /manage/projects"),
    "blank in the path": request("GET /manage/pro jects"),
    "bytes in the path": request("GET /manage/\u00e9"),
    "address with half a bracket": request("GET http://[/manage/projects"),
    "address with no IPv6": request("GET http://[x]/manage/projects"),
    "no Host": b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n",
    "two Hosts": request("GET /health", "Host: other"),
    "no colon": request("GET /health", "Nonsense"),
    "blank before the colon": request("GET /health", "X : y"),
    "no name": request("GET /health", ": y"),
    "NUL in a header": request("GET /health", "X: a\0b"),
    "CR in a header": request("GET /health", "X: a\rb"),
    "LF in a header": request("GET /health", "X: a\nb"),
    "negative length": request(PROJECTS, "Content-Length: -1"),
    "signed length": request(PROJECTS, "Content-Length: +1") + b"x",
    "length in words": request(PROJECTS, "Content-Length: one") + b"x",
    "length of too many digits": request(PROJECTS, "Content-Length: " + "1" * 5000),
    "two lengths": request(PROJECTS, "Content-Length: 1", "Content-Length: 2") + b"xy",
    "length and chunks": request(PROJECTS, "Content-Type: application/json", CHUNKED, body=in_chunks(GOOD[PROJECTS])),
    "chunk of a negative size": request(PROJECTS, CHUNKED) + b"-1\r\nx\r\n0\r\n\r\n",
    "chunk of no size": request(PROJECTS, CHUNKED) + b"zz\r\nx\r\n0\r\n\r\n",
    "chunk of a prefixed size": request(PROJECTS, CHUNKED) + b"0x1\r\nx\r\n0\r\n\r\n",
    "chunk that is longer": request(PROJECTS, CHUNKED) + b"1\r\nxyz\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("name", NO_HTTP)
def test_malformed_http_is_rejected(target: Target, name: str) -> None:
    target.check_refused(NO_HTTP[name], 400, "invalid_request")


def test_oversized_headers_are_431_and_unknown_encodings_501(target: Target) -> None:
    target.check_refused(request("GET /manage/projects", "X: " + "x" * MAX_HEADERS), 431, "headers_too_large")
    target.check_refused(request(f"GET /manage/{'x' * MAX_HEADERS}"), 431, "headers_too_large")
    for encoding in ("gzip", "gzip, chunked", "identity", "x"):
        raw = request(PROJECTS, f"Transfer-Encoding: {encoding}")
        target.check_refused(raw, 501, "transfer_encoding_unknown")


ID = f"projectId={PROJECT_ID}"
QUERIES = (
    *("activeOnly=", "activeOnly=1", "activeOnly=yes", "activeOnly=null", "activeOnly=true%00", "activeOnly=%ff"),
    *("activeOnly=true&activeOnly=false", "activeOnly=true&activeOnly=true", "activeOnly=true&activeOnly=x"),
    *("projectId=", "projectId=x", f"{ID}%0a", f"projectId={{{PROJECT_ID}}}", f"projectId=urn:uuid:{PROJECT_ID}"),
    *("projectId=%00", "projectId=%ff", f"projectId=%D9%A3{UNKNOWN[1:]}", f"projectId={UNKNOWN.replace('-', '')}"),
    *(f"{ID}&{ID}", f"{ID}&projectId=x", f"activeOnly=true;{ID}"),
)


@pytest.mark.parametrize("query", QUERIES)
def test_bad_queries_are_rejected(target: Target, query: str) -> None:
    target.check_refused(request(f"GET /manage/tokens?{query}"), 400, "invalid_request")


NO_IDS = (
    *(UNKNOWN, UNKNOWN.upper(), "00000000-0000-0000-0000-000000000000", "x", "-1", "0", "%00", "%ff", "%zz", "%0a"),
    *("..", "%2e%2e", "x" * 5000, "'%20OR%201=1", "*", "%C2%AD", UNKNOWN.replace("-", ""), f"%D9%A3{UNKNOWN[1:]}"),
    *(f"{name}{end}" for name in (PROJECT_ID, TOKEN_ID, VALUE) for end in ("%0a", "%20", "x", "/", "/x", "%00", ",x")),
    *(f"{start}{name}" for name in (PROJECT_ID, TOKEN_ID, VALUE) for start in ("%20", "urn:uuid:", "/", "x", "./")),
)


@pytest.mark.parametrize("folder", ["tokens", "projects"])
def test_unknown_ids_are_404(target: Target, folder: str) -> None:
    for name in NO_IDS:
        good = GOOD[TOKEN if folder == "tokens" else PROJECT]
        for method, body in (("GET", None), ("DELETE", None), ("PATCH", good)):
            raw = request(f"{method} /manage/{folder}/{name}", "Content-Type: application/json", body=body)
            target.check_refused(raw, 404, "not_found")
    if folder == "projects":
        for name in (UNKNOWN, "x", TOKEN_ID, VALUE):
            target.check_refused(request(f"POST /manage/projects/{name}/tokens/revoke"), 404, "not_found")
    else:
        for name in (UNKNOWN, "x", PROJECT_ID):
            target.check_refused(request(f"POST /manage/tokens/{name}/rotate"), 404, "not_found")


def test_a_token_for_an_unknown_project_is_404(target: Target) -> None:
    for project_id in (UNKNOWN, UNKNOWN.upper(), TOKEN_ID, VALUE):
        target.check_refused(json_request(TOKENS, f'{{"project_id": "{project_id}"}}'), 404, "not_found")


PATHS = (
    *("/manage", "/manage/", "/manage//projects", "/manage/projects/", "/MANAGE/projects"),
    *("/manage/Projects", "/manage/projects/../projects", "/manage/./projects", "/manage/projects;x", "/v1/models"),
    *("/manage/projects/x/tokens", f"/manage/tokens/{TOKEN_ID}/revoke", f"/manage/projects/{PROJECT_ID}/x", "*"),
    *("/manage/\\projects", "/manage/projects%00", "/manage/projects%23", "/assets/x", "/openapi.json"),
)


@pytest.mark.parametrize("path", PATHS)
def test_unknown_paths_are_404(target: Target, path: str) -> None:
    for method in ("GET", "POST", "DELETE", "OPTIONS"):
        target.check_refused(request(f"{method} {path}"), 404, "not_found")


def test_files_outside_the_documentation_and_the_pages_are_404(target: Target) -> None:
    for path in ("../app.py", "%2e%2e/app.py", "..%2fapp.py", "%2fetc/passwd", "x%00", "..", "..%5capp.py"):
        target.check_refused(request(f"GET /docs/{path}"), 404, "not_found")
        target.check_refused(request(f"GET /static/{path}"), 404, "not_found")


@pytest.mark.parametrize("path", ["/manage/projects", "/manage/tokens", "/manage/projects/", "/health", "/docs", "/"])
def test_unknown_methods_are_405(target: Target, path: str) -> None:
    line = f"{path}{PROJECT_ID}" if path.endswith("s/") else path
    for method in ("PUT", "OPTIONS", "TRACE", "CONNECT", "BREW", "X" * 5000):
        target.check_refused(request(f"{method} {line}", body=GOOD[PROJECTS]), 405, "method_not_allowed")
    target.check_refused(request(f"GET /manage/projects/{PROJECT_ID}/tokens/revoke"), 405, "method_not_allowed")
    target.check_refused(request(f"GET /manage/tokens/{TOKEN_ID}/rotate"), 405, "method_not_allowed")


AUTHORIZATIONS = (
    *("", "Bearer", "Bearer ", "bearer  ", f"Basic {MANAGEMENT_TOKEN}", MANAGEMENT_TOKEN, f"Bearer{MANAGEMENT_TOKEN}"),
    *(f"Bearer {MANAGEMENT_TOKEN}x", f"Bearer {MANAGEMENT_TOKEN[:-1]}", f"Bearer {MANAGEMENT_TOKEN.upper()}"),
    *(f"Bearer {MANAGEMENT_TOKEN}, Bearer x", f"Bearer x {MANAGEMENT_TOKEN}", f"Bearer\t{MANAGEMENT_TOKEN}"),
    *(
        f"Bearer {VALUE}",
        f"Bearer {TOKEN_ID}",
        f"Bearer {SECRET}",
        "Bearer \u00e9\u2603",
        f'Bearer "{MANAGEMENT_TOKEN}"',
    ),
    f"Bearer {MANAGEMENT_TOKEN}\r\nAuthorization: Bearer {MANAGEMENT_TOKEN}",
)


@pytest.mark.parametrize("number", range(len(AUTHORIZATIONS)))
def test_broken_authorization_is_401(target: Target, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(target, "address", f"127.0.1.{number + 1}")
    for line in (
        "GET /manage/tokens",
        "GET /manage/nothing",
        "PUT /manage/tokens",
        f"DELETE /manage/tokens/{TOKEN_ID}",
    ):
        raw = request(line, authorization=AUTHORIZATIONS[number])
        target.check_refused(raw, 401, "unauthorized")
    for body in (GOOD[TOKEN], "{"):
        raw = request(TOKEN, "Content-Type: application/json", body=body, authorization=AUTHORIZATIONS[number])
        target.check_refused(raw, 401, "unauthorized")


def test_a_client_that_hangs_up_in_its_body_changes_nothing(target: Target) -> None:
    before = target.rows()
    raw = json_request(PROJECTS, GOOD[PROJECTS])
    for length in (1, raw.index(b"\r\n\r\n"), len(raw) - 1):
        with socket.create_connection(("127.0.0.1", target.gateway.manage_port), timeout=DEADLINE) as sock:
            sock.sendall(raw[:length])
            sock.shutdown(socket.SHUT_WR)
            assert sock.recv(1) == b""
    assert target.rows() == before


def test_rejected_secrets_are_not_logged(tmp_path: Path) -> None:
    """At level debug, as every test here; with tokens where none belong."""
    gateway = Gateway(tmp_path, "http://127.0.0.1:9")
    try:
        gateway.start_management()
        with contextlib.closing(Target(gateway)) as target:
            for place in ("tokens/", "tokens/x", "token/", "projects/", "x%2F", "x%252F", "x", "tokens%2F"):
                for method in ("GET", "PUT", "TRACE"):
                    for authorization in (None, f"Bearer {VALUE}", f"Basic {SECRET}"):
                        target.ask(request(f"{method} /manage/{place}{VALUE}?k={SECRET}", authorization=authorization))
            for raw in NO_HTTP.values():
                target.ask(raw.replace(b"\r\n", f"\r\nX-Secret: {SECRET} {VALUE}\r\n".encode(), 1))
            for line in WRITES:
                for body in no_json(GOOD[line]):
                    target.ask(json_request(line, body))
                for field, (_, values) in BAD_FIELDS.items():
                    target.ask(json_request(line, f'{GOOD[line][:-1]}, "{field}": {values[-1]}}}'))
                for field in UNKNOWN_FIELDS:
                    target.ask(json_request(line, f"{GOOD[line][:-1]}, {json.dumps(field)}: 1}}"))
    finally:
        gateway.stop()
    log = gateway.logs()
    assert log.count("manage_api") > 150
    for secret in (SECRET, target.token["token"], MANAGEMENT_TOKEN, "Traceback", "uncaptured"):
        assert secret not in log
