import asyncio

from support.gateway.inprocess import run

from addon.plain.deadline import Deadline


def test_it_rings_once_in_time_and_not_before() -> None:
    async def main() -> None:
        loop, rung = asyncio.get_running_loop(), []
        deadline, begin = Deadline(loop), loop.time()
        deadline.start(0.05, lambda: rung.append(loop.time() - begin))
        await asyncio.sleep(0.2)
        assert len(rung) == 1
        assert rung[0] >= 0.05

    run(main())


def test_the_last_one_that_was_set_holds() -> None:
    async def main() -> None:
        rung: list[str] = []
        deadline = Deadline(asyncio.get_running_loop())
        deadline.start(0.3, lambda: rung.append("late"))
        deadline.start(0.02, lambda: rung.append("soon"))
        await asyncio.sleep(0.1)
        assert rung == ["soon"]
        deadline.start(0.02, lambda: rung.append("first"))
        deadline.start(0.1, lambda: rung.append("second"))
        await asyncio.sleep(0.05)
        assert rung == ["soon"]
        await asyncio.sleep(0.2)
        assert rung == ["soon", "second"]

    run(main())


def test_one_that_is_put_off_rings_later() -> None:
    async def main() -> None:
        loop, rung = asyncio.get_running_loop(), []
        deadline, begin = Deadline(loop), loop.time()
        deadline.put_off(0.01)  # none is set
        deadline.start(0.1, lambda: rung.append(loop.time() - begin))
        for _ in range(5):
            await asyncio.sleep(0.03)
            deadline.put_off(0.1)
        await asyncio.sleep(0.3)
        assert len(rung) == 1
        assert rung[0] >= 0.25

    run(main())


def test_the_same_one_is_not_set_again() -> None:
    async def main() -> None:
        rung: list[str] = []
        deadline = Deadline(asyncio.get_running_loop())

        def late() -> None:
            rung.append("late")

        for expected in (["late"], ["late", "late"]):
            async with asyncio.timeout(10):
                while rung != expected:  # one that is set again each time would never ring
                    deadline.start_once(0.1, late)
                    await asyncio.sleep(0.01)

    run(main())


def test_nothing_rings_after_a_stop_or_the_end() -> None:
    async def main() -> None:
        rung: list[str] = []
        loop = asyncio.get_running_loop()
        stopped, closed = Deadline(loop), Deadline(loop)
        stopped.start(0.02, lambda: rung.append("stopped"))
        stopped.stop()
        stopped.put_off(0.01)
        closed.start(0.02, lambda: rung.append("closed"))
        closed.close()
        await asyncio.sleep(0.1)
        assert rung == []
        stopped.start(0.01, lambda: rung.append("again"))
        await asyncio.sleep(0.05)
        assert rung == ["again"]

    run(main())
