"""The division of the tests between the suite and a soak run, and among workers; and the fixtures of all tests."""

import functools
import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import httpx
import hypothesis
import pytest
from support import soak
from support.gateway import forks
from support.stores.postgresql import QUICK, Server
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

SHARING = frozenset(
    f"tests/functional/test_{name}.py"
    for name in (
        *(
            "admins",
            "answers",
            "damaged_rows",
            "exactness",
            "faithful",
            "large_bodies",
            "limits",
            "obeyed_at_once",
            "only_v1",
        ),
        *("budgets", "policies", "promises", "reserved_endpoints", "rotated_tokens", "sdk", "streaming", "tokens"),
    )
)
"""The files whose tests share the gateways of functional/conftest.py. One that is missing here only costs time."""

MEMORY = Path("/dev/shm")  # noqa: S108 - pytest makes a folder of its own in it
ROOM = 4 * 2**30

CHANGED = pytest.StashKey[list[str]]()
"""The tests that `--changed` selects, and the reasons."""


SLOWEST = ("run_sh", "stop", "start", "faults", "postgresql_faults", "networks", "mitmweb", "canary", "ledger", "ways")
"""The functional files to begin with, after those that share gateways: long ones must not come last."""

OTHERS = ("store", "manage_api", "addon")
"""The packages after them: the last files of addon are short."""


class _SharingTogether(LoadFileScheduling):  # type: ignore[misc] # it has no types
    """Gives each file to one worker as a whole; and so all that share gateways, which start once then."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return "shared gateways" if file in SHARING else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling:
    return _SharingTogether(config, log)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("soak", "LLM Proxy")
    group.addoption(
        "--soak",
        action="store_true",
        help="Run the slow tests, which are marked `soak`, and property tests with more examples.",
    )
    group.addoption(
        "--changed",
        nargs="?",
        const="",
        metavar="REF",
        help="With --soak: only tests that a change since REF touches. Default: where the branch left main.",
    )


def pytest_configure(config: pytest.Config) -> None:
    hypothesis.settings.register_profile("suite", max_examples=30)
    hypothesis.settings.register_profile("soak", max_examples=300, deadline=None)
    hypothesis.settings.load_profile("soak" if config.getoption("soak") else "suite")
    _keep_bytecode()
    for library in ("anthropic", "bpe_openai"):
        _import_when_used(library)
    if not config.getoption("soak"):
        forks.switch_on()
        _use_memory()
    if config.getoption("changed") is not None and not config.getoption("soak"):
        raise pytest.UsageError("--changed is for ./run.sh soak")


def _keep_bytecode() -> None:
    """Let each worker find the bytecode of the tests, as `./run.sh test` does: to compile them all takes 5 seconds."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False


class _Deferred(ModuleType):
    """A module that is imported when something of it is used. LazyLoader imports it at `import` already."""

    def __init__(self, spec: ModuleSpec) -> None:
        super().__init__(spec.name)
        self.__spec__ = spec

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules[self.__name__] is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


def _import_when_used(name: str) -> None:
    """Defer the import of a library that takes a second: every worker imports all tests, but few use the library."""
    spec = importlib.util.find_spec(name)
    if spec is not None and name not in sys.modules:
        sys.modules[name] = _Deferred(spec)


def _use_memory() -> None:
    """Keep temporary files in memory, where that has room: a sync takes 6 ms on a disk, and a store makes several."""
    memory = os.statvfs(MEMORY) if MEMORY.is_dir() else None
    if memory and memory.f_bavail * memory.f_frsize > ROOM and not memory.f_flag & os.ST_NOEXEC:
        tempfile.tempdir = os.environ.get("TMPDIR", str(MEMORY))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Spare the suite the import of tests that it would leave out."""
    return True if collection_path.name == "soak" and not config.getoption("soak") else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests of the other kind of run.

    Then sort the long files first: a long file at the end would leave the other workers without work.
    """
    kept = [item for item in items if soak.is_for(item, soak=config.getoption("soak"))]
    if config.getoption("changed") is not None:
        config.stash[CHANGED], kept = _touched(config.getoption("changed"), kept)
    if left_out := set(items) - set(kept):
        config.hook.pytest_deselected(items=[item for item in items if item in left_out])
    items[:] = sorted(kept, key=_place_in_the_order)


def _place_in_the_order(item: pytest.Item) -> tuple[int, bool]:
    """Those that share gateways run on one path first, and then on the other: the gateways end with their path."""
    if item.path.parent.name != "functional":
        package = item.path.relative_to(Path(__file__).parent).parts[0]
        return len(SLOWEST) + 2 + (OTHERS.index(package) if package in OTHERS else len(OTHERS)), False
    if f"tests/functional/{item.path.name}" in SHARING:
        return 0, isinstance(item, pytest.Function) and item.callspec.params.get("path") == "off"
    name = item.path.stem.removeprefix("test_")
    return (SLOWEST.index(name) + 1 if name in SLOWEST else len(SLOWEST) + 1), False


def _touched(reference: str, items: list[pytest.Item]) -> tuple[list[str], list[pytest.Item]]:
    """Return the selection of `--changed`, as lines to print and as tests."""
    base, changed = soak.changed_files(reference)
    reasons = {item: reason for item in items if (reason := soak.reason(item, changed))}
    of_files = {(item.path.name, reason) for item, reason in reasons.items()}
    lines = [f"--changed: {len(changed)} files since {base[:12]} touch {len(reasons)} of {len(items)} tests"]
    return [*lines, *(f"  {name}, by {reason}" for name, reason in sorted(of_files))], [*reasons]


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    return config.stash.get(CHANGED, [])


@pytest.fixture(scope="session", autouse=True)
def _authorities_are_read_once() -> Iterator[None]:
    """httpx reads all authorities for each client again, which takes 20 ms; the tests make thousands of clients.

    Settings read those that SSL_CERT_FILE names, which takes 30 ms.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
            patch.delenv(name, raising=False)
        patch.setattr("httpx._transports.default.create_ssl_context", functools.cache(httpx.create_ssl_context))
        yield


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Server]:
    """A PostgreSQL for the tests of one worker; each test makes a database of its own."""
    with Server.running(*QUICK) as server:
        yield server
