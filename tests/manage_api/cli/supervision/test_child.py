import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.gateway.children import READY, SERVING, is_gone, pids, python
from support.gateway.processes import clean_environment
from support.gateway.signals import signals_kept

from manage_api.cli.supervision import child
from manage_api.cli.supervision.child import Child


@pytest.fixture(autouse=True)
def _signals_kept() -> Iterator[None]:
    with signals_kept():
        yield


async def spawn(code: str, *arguments: str) -> Child:
    return await Child.spawn(python(code, *arguments), clean_environment(), [])


def test_a_child_reports_that_it_serves_and_its_drain_timeout(tmp_path: Path) -> None:
    async def serve() -> None:
        one = await spawn(SERVING.replace("b'5'", "b'2.5'"), str(tmp_path / "pids"))
        assert await one.serves(None)
        assert (one.drain_timeout, one.page) == (2.5, "")
        assert await one.end(signal.SIGTERM)
        assert await one.end(signal.SIGTERM)  # once more does no harm

    asyncio.run(serve())
    assert all(map(is_gone, pids(tmp_path / "pids")))


def test_a_child_reports_the_page_it_serves_besides(tmp_path: Path) -> None:
    async def serve() -> None:
        code = SERVING.replace("b'5'", "b'2.5 http://web/?token=x\\n'")
        one = await spawn(code, str(tmp_path / "pids"))
        assert await one.serves(None)
        assert (one.drain_timeout, one.page) == (2.5, "http://web/?token=x")
        assert await one.end(signal.SIGTERM)

    asyncio.run(serve())


@pytest.mark.parametrize(
    ("code", "limit", "status"),
    [
        ("exit(3)", None, 3),
        ("input()", 0.2, -signal.SIGKILL),
        (READY.replace("b'5'", "b'what another version says'") + "; input()", None, -signal.SIGKILL),
    ],
)
def test_a_child_that_ends_or_takes_too_long_does_not_serve(code: str, limit: float | None, status: int) -> None:
    async def serve() -> None:
        one = await spawn(code)
        assert not await one.serves(limit)
        assert await one.wait() == status
        assert await one.end(signal.SIGTERM) is False

    asyncio.run(serve())


def test_a_child_that_does_not_end_is_killed_after_its_drain_timeout(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(child, "_GRACE", 0)
    monkeypatch.setattr(child, "STOP_AGAIN", 0.1)
    ready = READY.replace("b'5'", "b'0.5'")

    async def end() -> float:
        one = await spawn(f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {ready}; input()")
        assert await one.serves(None)
        began = asyncio.get_running_loop().time()
        assert await one.end(signal.SIGTERM) is False
        return asyncio.get_running_loop().time() - began

    assert asyncio.run(end()) >= 0.5
    assert "which did not end" in capfd.readouterr().err
