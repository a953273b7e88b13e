import asyncio

from addon.exchange import Destination, Exchanges, Grant

GRANT = Grant(Destination("host", 443, tls=True), "sk-secret")


def test_an_exchange_ends_once_and_forgets_its_secrets() -> None:
    exchanges = Exchanges()
    exchange = exchanges.open("flow", "client")
    exchange.grant, exchange.token = GRANT, "token"
    assert exchanges.get("flow") is exchange
    assert exchanges.close("flow") is exchange
    assert not exchange.grant
    assert not exchange.token
    assert exchanges.close("flow") is None
    assert exchanges.get("flow") is None
    assert len(exchanges) == 0


def test_secrets_are_not_in_the_repr() -> None:
    exchange = Exchanges().open("flow", "client")
    exchange.grant, exchange.token = GRANT, "the-token-value"
    assert "sk-secret" not in repr(exchange)
    assert "the-token-value" not in repr(exchange)


def test_each_exchange_has_an_id_of_its_own() -> None:
    exchanges = Exchanges()
    assert len({exchanges.open(str(number), "client").request_id for number in range(100)}) == 100


def test_waiting_ends_with_the_last_exchange() -> None:
    async def main() -> None:
        exchanges = Exchanges()
        await asyncio.wait_for(exchanges.drain(), 1)
        exchanges.open("one", "client")
        exchanges.open("two", "client")
        waiting = asyncio.create_task(exchanges.drain())
        await asyncio.sleep(0)
        exchanges.close("one")
        await asyncio.sleep(0)
        assert not waiting.done()
        exchanges.open("three", "client")
        exchanges.close("two")
        await asyncio.sleep(0)
        assert not waiting.done()
        exchanges.close("three")
        await asyncio.wait_for(waiting, 1)

    asyncio.run(main())


def test_the_exchanges_of_a_client_are_known() -> None:
    exchanges = Exchanges()
    for flow, client in (("one", "gone"), ("two", "here"), ("three", "gone")):
        exchanges.open(flow, client)
    assert [*exchanges.of("gone")] == ["one", "three"]
    assert exchanges.all() == ["one", "two", "three"]
