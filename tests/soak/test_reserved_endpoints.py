"""A million paths, written in every way to get past the list of reserved endpoints, before a thousand servers that
read them in ways of their own: none that one of them takes for a refused endpoint passes."""

import random
from collections import Counter
from urllib.parse import unquote

import pytest
from support.attacks.written_paths import REFUSED, Reader, write
from support.gateway.requests import make_request

from addon import validation
from addon.protocol.reserved_endpoints import is_reserved
from store.errors import GatewayError

pytestmark = pytest.mark.soak("addon/protocol", "addon/validation.py")

PATHS = 250_000
SEEDS = 4
READERS = 1_000
READERS_OF_A_PATH = 8


@pytest.mark.parametrize("seed", range(SEEDS))
def test_no_spelling_of_a_reserved_endpoint_passes(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - no secret
    readers = [Reader(chance) for _ in range(READERS)]
    seen: Counter[str] = Counter()
    for _ in range(PATHS):
        path = write(chance)
        refused = any(reader.is_refused(path) for reader in chance.sample(readers, READERS_OF_A_PATH))
        seen["read as refused"] += refused
        try:
            validation.check(make_request(path=path, method="POST"))
        except GatewayError as error:
            seen[error.code] += 1
            continue
        reserved = is_reserved("POST", validation.path_of(make_request(path=path)))
        seen["endpoint_not_allowed" if reserved else "passed"] += 1
        seen["read as refused, beyond validation"] += refused
        seen["read as refused, not when decoded once"] += refused and not _is_refused_decoded_once(path)
        assert reserved or not refused, path
    print(f"seed {seed}: {dict(seen)}")
    assert seen["read as refused, not when decoded once"] > PATHS / 20
    assert seen["passed"] > PATHS / 20


def _is_refused_decoded_once(path: bytes) -> bool:
    return REFUSED.fullmatch(unquote(path.decode().partition("?")[0]).lower()) is not None
