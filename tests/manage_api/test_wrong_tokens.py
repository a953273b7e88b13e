import pytest
from flask.testing import FlaskClient

from manage_api import wrong_tokens
from manage_api.wrong_tokens import BURST, INTERVAL, WrongTokens
from store.errors import TooManyWrongTokens


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def wrong(clock: Clock) -> WrongTokens:
    return WrongTokens(clock)


def counted(wrong: WrongTokens, client: str, times: int = 50) -> int:
    """Send wrong tokens, and return how many were counted before one was refused."""
    for number in range(times):
        try:
            wrong.count(client)
        except TooManyWrongTokens:
            return number
    return times


def test_an_address_that_sends_too_many_is_told_when_to_come_back(wrong: WrongTokens, clock: Clock) -> None:
    assert counted(wrong, "192.0.2.1") == BURST
    clock.now += INTERVAL - 1.5
    with pytest.raises(TooManyWrongTokens, match="in 2 s") as raised:
        wrong.count("192.0.2.1")
    assert raised.value.headers == {"Retry-After": "2"}
    clock.now += 2
    assert counted(wrong, "192.0.2.1") == 1
    clock.now += BURST * INTERVAL
    assert counted(wrong, "192.0.2.1") == BURST


def test_other_addresses_are_not_slowed_down(wrong: WrongTokens) -> None:
    counted(wrong, "192.0.2.1")
    assert counted(wrong, "192.0.2.2") == BURST
    assert counted(wrong, "a name") == BURST


def test_addresses_of_one_ipv6_network_are_one(wrong: WrongTokens) -> None:
    assert sum(counted(wrong, f"2001:db8:0:1::{number:x}", 1) for number in range(50)) == BURST
    assert counted(wrong, "2001:db8:0:2::1") == BURST


def test_only_the_newest_addresses_are_remembered(wrong: WrongTokens, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wrong_tokens, "MOST_ADDRESSES", 2)
    for client in ("192.0.2.1", "192.0.2.2", "192.0.2.3"):
        assert counted(wrong, client) == BURST
    assert counted(wrong, "192.0.2.3") == 0
    assert counted(wrong, "192.0.2.1") == BURST


def test_wrong_tokens_slow_down_wrong_tokens_alone(anyone: FlaskClient, auth: dict[str, str]) -> None:
    def ask(token: str, address: str = "192.0.2.1") -> int:
        header = {"Authorization": f"Bearer {token}"} if token else {}
        environment = {"REMOTE_ADDR": address}
        return anyone.get("/manage/projects", headers=header, environ_overrides=environment).status_code

    assert [ask(f"wrong-{number}") for number in range(BURST + 2)] == [401] * BURST + [429] * 2
    assert ask(auth["Authorization"].removeprefix("Bearer ")) == 200
    assert ask("") == 401
    assert ask("wrong", "192.0.2.2") == 401
