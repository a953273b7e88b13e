import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.stores.stores import make_token

from manage_api import bodies
from manage_api.pages import forms
from store import clock
from store.clock import DAY, MINUTE
from store.errors import InvalidRequest
from store.management.projects import Projects
from store.store import Store

ALL = (forms.NAME, forms.EXPIRES, forms.MAX_REQUESTS, *forms.RULES)
LINES = forms.Field("lines", "Lines", "", is_list=True)
NUMBER = forms.MAX_REQUESTS
TEXT = forms.NAME


def one(field: forms.Field, text: str) -> object:
    return forms.body([field], {field.name: text})[field.name]


def of(name: str) -> forms.Field:
    (found,) = (field for field in ALL if field.name == name)
    return found


@pytest.mark.parametrize(
    ("text", "value"),
    [("", None), ("  ", None), ("a", ["a"]), ("a\r\nb\r\n\r\n", ["a", "b"]), (" a \n b ", ["a", "b"])],
)
def test_a_list_has_an_entry_a_line(text: str, value: object) -> None:
    assert one(LINES, text) == value


def test_the_word_nothing_allows_nothing() -> None:
    assert one(LINES, "nothing") == []
    assert one(LINES, "nothing\nmore") == ["nothing", "more"]
    with pytest.raises(InvalidRequest, match="“Limits”"):
        one(of("rate_limits"), "nothing")


@pytest.mark.parametrize(("text", "value"), [("", 0), ("7", 7), ("1,000", 1000), ("1 000", 1000), (" 7 ", 7)])
def test_whole_numbers(text: str, value: int) -> None:
    assert one(NUMBER, text) == value


@pytest.mark.parametrize("text", ["x", "-1", "1.5", "1e3", "٣", "9" * 22])
def test_other_numbers_are_told(text: str) -> None:
    with pytest.raises(InvalidRequest, match="“Requests in all” must be a whole number"):
        one(NUMBER, text)


@pytest.mark.parametrize(
    ("text", "expiry"),
    [
        ("never", clock.to_rfc3339(clock.NEVER)),
        ("Never", clock.to_rfc3339(clock.NEVER)),
        ("2099-12-31", "2099-12-31T00:00:00Z"),
        ("2099-12-31T10:00:00+02:00", "2099-12-31T08:00:00Z"),
    ],
)
def test_expiries(text: str, expiry: str) -> None:
    assert one(forms.EXPIRES, text) == expiry


def test_an_expiry_may_be_a_time_from_now() -> None:
    expiry = one(forms.EXPIRES, "30 days")
    assert abs(clock.from_rfc3339(str(expiry)) - clock.now() - 30 * DAY) < MINUTE


@pytest.mark.parametrize("text", ["", " ", "soon", "31.12.2099", "2099-13-01", "2099-02-30", "30 days ago", "0d"])
def test_no_expiry_is_never_guessed(text: str) -> None:
    with pytest.raises(InvalidRequest, match="“Expires” must be a time from now"):
        one(forms.EXPIRES, text)


@pytest.mark.parametrize(
    ("was", "now", "is_changed"),
    [
        (None, "a", True),
        ("a", "a", False),
        ("a", "b", True),
        ("", "", False),
        ("a\nb", "a\r\nb\r\n", False),
        ("a", " a ", False),
        ("a\nb", "b\na", True),
    ],
)
def test_only_what_was_changed_is_written(was: str | None, now: str, is_changed: bool) -> None:
    form = {"lines": now} if was is None else {"lines": now, "was-lines": was}
    assert ("lines" in forms.body([LINES], form)) == is_changed


def test_a_field_that_was_not_sent_is_empty_or_unchanged() -> None:
    assert forms.body([LINES, TEXT], {"was-name": ""}) == {"lines": None}


def test_messages_name_the_line() -> None:
    with pytest.raises(InvalidRequest, match=r"“Limits” \(line 2\) must be requests or tokens"):
        one(of("rate_limits"), "60/minute\n\nfast")


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("The field 'rate_limits[0].per' must be one of", "“Limits” (line 1) must be one of"),
        ("The field 'allowed_ips[2]' is wrong", "“Addresses” (line 3) is wrong"),
        ("the field 'name' is wrong", "“Name” is wrong"),
        ("'name' is wrong, and 'other' too", "“Name” is wrong, and 'other' too"),
        ("something else", "Something else"),
        ("", ""),
    ],
)
def test_messages_of_the_api_have_the_labels_of_the_form(message: str, shown: str) -> None:
    assert forms.in_labels(message, ALL) == shown


KINDS = [(counted, per) for counted in ("requests", "tokens") for per in ("second", "minute", "hour", "day")]
WINDOWS = st.dictionaries(st.sampled_from(KINDS), st.integers(1, 10**12)).map(
    lambda numbers: [{counted: number, "per": per} for (counted, per), number in numbers.items()]
)


@pytest.fixture
def project_id(store: Store) -> str:
    return Projects(store).create("One", "sk-upstream-0123456789").id


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15)
@given(
    windows=WINDOWS,
    budget=st.sampled_from([None, [], [{"usd": "2.50", "per": "day"}, {"usd": "0.000000000001", "per": "total"}]]),
    parallel=st.none() | st.integers(1, 10**6),
    models=st.none() | st.lists(st.sampled_from(["gpt-4o", "o3 mini", "nothing-else"]), unique=True),
    addresses=st.sampled_from([None, [], ["10.0.0.0/8", "2001:db8::/32"]]),
)
def test_the_texts_of_an_object_are_read_as_its_fields(
    store: Store, project_id: str, windows: object, budget: object, parallel: object, models: object, addresses: object
) -> None:
    rules = {
        "rate_limits": windows or None,
        "budgets": budget or None,
        "max_parallel_requests": parallel,
        "allowed_models": models,
        "allowed_endpoints": None,
        "allowed_ips": addresses,
    }
    record = make_token(store, project_id=project_id, name="app", **rules)
    body = forms.body((forms.NAME, *forms.RULES), forms.texts_of(record))
    assert body == {"name": "app", **rules}
    bodies.check("TokenUpdateRequest", body)


def test_the_texts_of_an_object_change_nothing(store: Store) -> None:
    texts = forms.texts_of(make_token(store, rate_limits=[{"requests": 1, "per": "day"}], allowed_ips=[]))
    form = {**texts, **{f"was-{name}": text for name, text in texts.items()}}
    assert forms.body((forms.NAME, *forms.RULES), form) == {}
