from addon import token_standing
from store.admission.decision import TokenStanding
from store.clock import NEVER, from_rfc3339
from store.limits.standing import LimitStanding

NOON = from_rfc3339("2026-11-29T12:00:00Z")
A_DAY = LimitStanding("requests", "day", 1000, 7, 993, NOON)
A_SECOND = LimitStanding("requests", "second", 5, 1, 4, NOON + 1)
AT_ONCE = LimitStanding("parallel", None, 3, 1, 2, None)


def test_limits_are_told_in_the_order_of_the_checks_the_tokens_first() -> None:
    standing = TokenStanding(None, NOON, 0, 7, [A_SECOND, AT_ONCE], [A_DAY, A_SECOND, AT_ONCE])
    body = token_standing.body(standing)
    assert (body["name"], body["expires_at"]) == (None, "2026-11-29T12:00:00Z")
    limits = body["limits"]
    assert isinstance(limits, list)
    assert [(limit["of"], limit["kind"], limit["per"]) for limit in limits] == [
        ("project", "requests", "day"),
        ("token", "requests", "second"),
        ("project", "requests", "second"),
        ("token", "parallel", None),
        ("project", "parallel", None),
    ]
    assert limits[0] == {
        "of": "project",
        "kind": "requests",
        "per": "day",
        "limit": 1000,
        "used": 7,
        "reserved": 0,
        "remaining": 993,
        "resets_at": "2026-11-29T12:00:00.000000Z",
    }
    assert [limit["resets_at"] for limit in limits[-2:]] == [None, None]


def test_a_token_that_never_expires_has_no_expiry() -> None:
    assert token_standing.body(TokenStanding("x", NEVER, 5, 5, [], [])) == {
        "name": "x",
        "expires_at": None,
        "max_requests": 5,
        "request_count": 5,
        "limits": [],
    }
