import pytest

from store.runtime import redaction

TOKEN = "3f2b8a9e-6c1d-4e57-9a40-0d9b7c5f1e23"
ADMIN = f"llmp_admin_{'0a' * 24}"
HEX = TOKEN.replace("-", "")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/v1/projects/8f14e45f-ceea-4672-9c6d-4cf0d7a1b5e1", "/v1/projects/***"),
        ("/v1/x=8F14E45FCEEA46729C6D4CF0D7A1B5E1/y", "/v1/x=***/y"),
        ("/v1/Bearer%20sk-proj-abc_DEF-0123456789", "/v1/Bearer%20***"),
        ("/v1/tasks/task-0123456789", "/v1/tasks/ta***"),
        (f"/v1/x{ADMIN}/y", "/v1/x***/y"),
        ("/v1/files/file-abc123", "/v1/files/file-abc123"),
        ("/v1/files/0190f3a1-7b2c-7d4e-9a40-0d9b7c5f1e23", "/v1/files/0190f3a1-7b2c-7d4e-9a40-0d9b7c5f1e23"),
        ("gpt-4o-mini-2024-07-18", "gpt-4o-mini-2024-07-18"),
    ],
)
def test_tokens_and_keys_are_masked_wherever_they_stand(text: str, shown: str) -> None:
    assert redaction.mask_secrets(text) == shown


@pytest.mark.parametrize(
    "text", [TOKEN, ADMIN, f"of {HEX.upper()}", "sk-0123456789", "Ann's key:SK-0123456789", "_sk-abcdefgh"]
)
def test_a_text_with_a_token_or_a_key_contains_a_secret(text: str) -> None:
    assert redaction.contains_secret(text)


@pytest.mark.parametrize("text", ["helpdesk-assistant", "TASK-scheduler", "sk-learn", "3f2b8a9e", "Ask-0123456789"])
def test_words_contain_no_secret(text: str) -> None:
    assert not redaction.contains_secret(text)


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (f"/manage/admins/{ADMIN}", "/manage/admins/<token>"),
        (f"/manage/tokens/{TOKEN}", "/manage/tokens/<token>"),
        (f"/manage/tokens/{TOKEN.upper()}/x?y", "/manage/tokens/<token>/x?y"),
        (f"/manage/tokens/{TOKEN}/rotate", "/manage/tokens/<token>/rotate"),
        ("/manage/tokens/what-ever", "/manage/tokens/<token>"),
        (f"/manage/token/{TOKEN}", "/manage/token/<token>"),
        (f"/manage/token/{HEX}", "/manage/token/<token>"),
        (f"/{TOKEN}", "/<token>"),
        (f"/manage/projects/{TOKEN}/tokens/revoke", f"/manage/projects/{TOKEN}/tokens/revoke"),
        (f"/manage/tokens?projectId={TOKEN}", f"/manage/tokens?projectId={TOKEN}"),
        (f"request_id={TOKEN}", f"request_id={TOKEN}"),
    ],
)
def test_tokens_in_paths_are_masked_and_ids_of_projects_stay(path: str, shown: str) -> None:
    assert redaction.mask_token_paths(path) == shown


@pytest.mark.parametrize("uuid", [TOKEN, HEX, TOKEN.upper(), "0190f3a1-7b2c-7d4e-0a40-0d9b7c5f1e23"])
def test_uuids_of_any_version_are_masked(uuid: str) -> None:
    assert redaction.mask_uuids(f"/manage/projects/{uuid}/x") == "/manage/projects/<uuid>/x"


@pytest.mark.parametrize("bytes_sent", [b"Bearer x", b"it's", b"'it\"s'", b"\\' \xff", b"two\r\nlines"])
def test_quoted_bytes_are_stripped(bytes_sent: bytes) -> None:
    text = f"Unexpected data: {bytes_sent!r} and {bytes_sent!r} more"
    assert redaction.strip_quoted_bytes(text) == "Unexpected data: <bytes> more"
    # From 16 bytes on: shorter ones hold no secret.
    assert redaction.strip_quoted_bytes(f"in hex: {(bytes_sent * 16).hex()}.") == "in hex: <bytes>."


def test_texts_without_quoted_bytes_stay() -> None:
    text = "cannot connect to host:1: b is no quote, nor is 'this', nor 0123456789abcdef"
    assert redaction.strip_quoted_bytes(text) == text


def test_the_login_of_mitmweb_is_masked() -> None:
    assert redaction.mask_login("GET /flows?page=1&token=0123abc&x=2") == "GET /flows?page=1&token=...&x=2"
    assert redaction.mask_login("http://host:1/?token=0123abc done") == "http://host:1/?token=... done"
