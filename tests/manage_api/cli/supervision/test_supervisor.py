import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from support.gateway.children import NOTE, READY, SERVING, Output, is_gone, pids, python
from support.gateway.processes import clean_environment, free_port, wait_until
from support.gateway.signals import signals_kept

from manage_api.cli.supervision import child, supervisor, worker_slot
from manage_api.cli.supervision.ports import open_port
from manage_api.cli.supervision.worker_slot import Service
from store.runtime.settings import Listen


@pytest.fixture(autouse=True)
def _signals_kept() -> Iterator[None]:
    with signals_kept():
        yield


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_slot, "FIRST_PAUSE", 0.01)


def run(
    *commands: Sequence[str], processes: int = 1, then: Callable[[], object], preparation: Sequence[str] = ()
) -> int:
    """Run services, after a preparation; when all are ready do something in a thread, and stop after it."""

    def act() -> None:
        try:
            then()
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    shares = [open_port("PROXY_LISTEN", Listen("127.0.0.1", free_port()), processes) for _ in commands]
    services = [
        Service(f"service {number}", command, sockets)
        for number, (command, sockets) in enumerate(zip(commands, shares, strict=True))
    ]
    acting = threading.Thread(target=act)
    try:
        return asyncio.run(
            supervisor.run(
                services,
                env=clean_environment(),
                on_ready=lambda _: acting.start(),
                preparation=preparation,
            )
        )
    finally:
        for one in (one for sockets in shares for share in sockets for one in share):
            one.close()
        if acting.ident:
            acting.join()


def test_all_start_and_a_signal_ends_all_cleanly(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    commands = [python(SERVING, str(file)) for file in (one, two)]
    assert run(*commands, processes=3, then=lambda: None) == 0
    assert len(pids(one)) == len(pids(two)) == 3
    assert all(map(is_gone, pids(one) + pids(two)))


@pytest.mark.parametrize("status", [0, 3])
def test_a_process_that_never_serves_ends_all(tmp_path: Path, capfd: pytest.CaptureFixture[str], status: int) -> None:
    ready: list[int] = []
    commands = [python(f"exit({status})"), python(SERVING, str(tmp_path / "pids"))]
    assert run(*commands, then=lambda: ready.append(1)) == 1
    assert f"The service 0 ended with status {status} before it served." in capfd.readouterr().err
    assert not ready
    assert all(map(is_gone, pids(tmp_path / "pids")))


def test_an_error_of_a_service_is_printed_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    del tmp_path
    assert run(python("print('bad settings'); exit(2)"), processes=4, then=lambda: None) == 1
    assert capfd.readouterr().out.count("bad settings") == 1


def test_a_process_that_dies_is_restarted(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "pids"

    def kill() -> None:
        for number in range(1, 4):
            wait_until(lambda: len(pids(file)) == number)  # noqa: B023 - called at once
            os.kill(pids(file)[-1], signal.SIGKILL)
        wait_until(lambda: len(pids(file)) == 4)

    assert run(python(SERVING, str(file)), then=kill) == 0
    assert capfd.readouterr().err.count("A process of the service 0 ended with status -9; starting another one.") == 3


def test_a_process_that_cannot_be_restarted_is_retried(tmp_path: Path) -> None:
    file, lock = tmp_path / "pids", tmp_path / "lock"

    def fail_for_a_while() -> None:
        lock.touch()
        os.kill(pids(file)[0], signal.SIGKILL)
        wait_until(lambda: lock.read_text().count("tried") >= 2)
        lock.unlink()
        wait_until(lambda: len(pids(file)) == 2)

    locked = "import os, sys; os.path.exists(sys.argv[2]) and (open(sys.argv[2], 'a').write('tried'), exit(1))"
    assert run(python(f"{locked}; {SERVING}", str(file), str(lock)), then=fail_for_a_while) == 0


def test_sighup_replaces_each_process_once_its_successor_serves(tmp_path: Path) -> None:
    file = tmp_path / "pids"
    before: list[int] = []

    def hang_up() -> None:
        before.extend(pids(file))
        os.kill(os.getpid(), signal.SIGHUP)
        wait_until(lambda: len(pids(file)) == 6 and all(map(is_gone, before)))

    assert run(python(SERVING, str(file)), processes=3, then=hang_up) == 0
    assert len(before) == 3
    assert not set(before) & set(pids(file)[3:])


@pytest.mark.parametrize(("fault", "limit", "status"), [("exit(7)", 60, 7), ("signal.pause()", 0.5, -9)])
def test_a_failed_replacement_leaves_the_old_processes_running(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    limit: float,
    status: int,
) -> None:
    """Also where the new process does not serve in time."""
    monkeypatch.setattr(worker_slot, "START_TIMEOUT", limit)
    file, broken = tmp_path / "pids", tmp_path / "broken"
    output = Output(capfd)

    def hang_up() -> None:
        broken.touch()
        os.kill(os.getpid(), signal.SIGHUP)
        wait_until(lambda: output.has("the old one goes on"))
        assert not any(map(is_gone, pids(file)))

    code = f"import os, signal, sys; os.path.exists(sys.argv[2]) and {fault}; {SERVING}"
    assert run(python(code, str(file), str(broken)), processes=2, then=hang_up) == 0
    assert output.has(f"The new service 0 ended with status {status}")
    assert len(pids(file)) == 2


def test_a_process_that_does_not_end_is_killed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "_GRACE", 0)
    ready = READY.replace("b'5'", "b'0.2'")
    deaf = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {NOTE}; {ready}\nwhile True: signal.pause()"
    assert run(python(deaf, str(tmp_path / "pids")), then=lambda: None) == 1
    assert "which did not end" in capfd.readouterr().err
    assert all(map(is_gone, pids(tmp_path / "pids")))


def test_on_ready_gets_the_pages_that_are_served_besides(tmp_path: Path) -> None:
    def announce(pages: Sequence[str]) -> None:
        announced.append(pages)
        os.kill(os.getpid(), signal.SIGTERM)

    announced: list[Sequence[str]] = []
    codes = [SERVING, SERVING.replace("b'5'", "b'5 http://web/?token=x\\n'")]
    services = [Service(name, python(code, str(tmp_path / name)), [[]]) for name, code in zip("ab", codes, strict=True)]
    assert asyncio.run(supervisor.run(services, env=clean_environment(), on_ready=announce)) == 0
    assert announced == [["http://web/?token=x"]]


def test_a_failing_on_ready_ends_all(tmp_path: Path) -> None:
    def fail(_: Sequence[str]) -> None:
        raise RuntimeError("no token")

    service = Service("one", python(SERVING, str(tmp_path / "pids")), [[]])
    with pytest.raises(RuntimeError, match="no token"):
        asyncio.run(supervisor.run([service], env=clean_environment(), on_ready=fail))
    assert all(map(is_gone, pids(tmp_path / "pids")))


def test_a_process_that_dies_while_its_predecessor_is_ending_is_restarted(tmp_path: Path) -> None:
    file = tmp_path / "pids"
    lingers = SERVING.replace("signal.SIGHUP)]", "signal.SIGUSR1)]; signal.signal(signal.SIGHUP, signal.SIG_IGN)")
    lingers = lingers.replace(
        f"{NOTE}; {READY}", f"import os; {READY}; {NOTE}"
    )  # a process that has noted its pid serves already

    def kill() -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        wait_until(lambda: len(pids(file)) == 2)
        before, now = pids(file)
        os.kill(now, signal.SIGKILL)
        wait_until(lambda: len(pids(file)) == 3)
        assert not is_gone(before)
        os.kill(before, signal.SIGUSR1)

    assert run(python(lingers, str(file)), then=kill) == 0


def test_a_process_that_misses_the_first_signal_gets_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "STOP_AGAIN", 0.1)
    file = tmp_path / "pids"
    misses = "left = [1]; signal.signal(signal.SIGTERM, lambda *_: left.pop() if left else exit(0))"
    code = SERVING.replace(READY, f"{misses}; {READY}")
    assert run(python(code, str(file)), then=lambda: None) == 0
    assert all(map(is_gone, pids(file)))


def test_a_stop_in_the_middle_of_a_replacement_ends_both(tmp_path: Path) -> None:
    file, slow = tmp_path / "pids", tmp_path / "slow"
    waits = "os.path.exists(sys.argv[2]) and signal.pause()"
    code = SERVING.replace(READY, f"{waits}; {READY}")

    def hang_up_and_stop() -> None:
        slow.touch()
        os.kill(os.getpid(), signal.SIGHUP)
        wait_until(lambda: len(pids(file)) == 2)

    assert run(python(code, str(file), str(slow)), then=hang_up_and_stop) == 0
    assert all(map(is_gone, pids(file)))


ENDS = "iter(lambda: bool(select.select([0], [], [], 0.005)[0]) or os.path.exists(sys.argv[2]), True)"
LASTING = f"{NOTE}; import os, select; [... for _ in {ENDS}]"
"""Notes its pid in a file, and ends when there is another file, or with its supervisor."""


@contextlib.contextmanager
def when_noted(file: Path, act: Callable[[], object]) -> Iterator[None]:
    """Do something in a thread once a process has noted its pid."""

    def wait_and_act() -> None:
        wait_until(lambda: bool(pids(file)))
        act()

    acting = threading.Thread(target=wait_and_act)
    acting.start()
    try:
        yield
    finally:
        acting.join()


def test_no_service_starts_before_the_preparation_has_ended(tmp_path: Path) -> None:
    file, done = tmp_path / "pids", tmp_path / "done"
    preparation = python("import sys, time; time.sleep(0.2); open(sys.argv[1], 'x')", str(done))
    service = python(f"import os, sys; os.path.exists(sys.argv[2]) or exit(3); {SERVING}", str(file), str(done))
    assert run(service, processes=2, then=lambda: None, preparation=preparation) == 0
    assert len(pids(file)) == 2


@pytest.mark.parametrize(
    ("preparation", "message"),
    [
        (python("exit(1)"), "The preparation ended with status 1."),
        (python("exit(2)"), "The preparation ended with status 2."),
        (python("import os; os.kill(os.getpid(), 9)"), "The preparation ended with status -9."),
        (["/no/such/program"], "Cannot start the preparation: "),
    ],
)
def test_no_service_starts_after_a_preparation_that_fails(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], preparation: Sequence[str], message: str
) -> None:
    file = tmp_path / "pids"
    ready: list[int] = []
    assert run(python(SERVING, str(file)), then=lambda: ready.append(1), preparation=preparation) == 1
    assert message in capfd.readouterr().err
    assert (pids(file), ready) == ([], [])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_during_the_preparation_ends_it_cleanly(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    file, preparing = tmp_path / "pids", tmp_path / "preparing"
    ready: list[int] = []
    preparation = python(LASTING, str(preparing), str(tmp_path / "never"))
    with when_noted(preparing, lambda: os.kill(os.getpid(), number)):
        assert run(python(SERVING, str(file)), then=lambda: ready.append(1), preparation=preparation) == 0
    assert all(map(is_gone, pids(preparing)))
    assert (pids(file), ready) == ([], [])
    assert capfd.readouterr().err == "Stopping.\n"


def test_a_preparation_that_does_not_end_is_killed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "_GRACE", 0.2)
    preparing = tmp_path / "preparing"
    deaf = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {LASTING}"
    preparation = python(deaf, str(preparing), str(tmp_path / "never"))
    with when_noted(preparing, lambda: os.kill(os.getpid(), signal.SIGTERM)):
        assert run(python(SERVING, str(tmp_path / "pids")), then=lambda: None, preparation=preparation) == 1
    assert all(map(is_gone, pids(preparing)))
    assert "which did not end" in capfd.readouterr().err


def test_a_hangup_during_the_preparation_ends_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Nor does it replace the processes that start after it."""
    file, preparing, done = tmp_path / "pids", tmp_path / "preparing", tmp_path / "done"

    def hang_up() -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        done.touch()

    def wait_until_kept_running() -> None:
        os.kill(pids(file)[0], signal.SIGKILL)
        wait_until(lambda: len(pids(file)) == 2)

    with when_noted(preparing, hang_up):
        preparation = python(LASTING, str(preparing), str(done))
        assert run(python(SERVING, str(file)), then=wait_until_kept_running, preparation=preparation) == 0
    assert "Replacing" not in capfd.readouterr().err


def test_a_terminal_that_is_gone_during_the_preparation_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preparing, terminals = tmp_path / "preparing", iter([True, False])
    monkeypatch.setattr(supervisor, "_has_terminal", lambda: next(terminals))
    preparation = python(LASTING, str(preparing), str(tmp_path / "never"))
    with when_noted(preparing, lambda: os.kill(os.getpid(), signal.SIGHUP)):
        assert run(python(SERVING, str(tmp_path / "pids")), then=lambda: None, preparation=preparation) == 0
    assert all(map(is_gone, pids(preparing)))
