"""Bodies with tricks, by the hundred thousand: none that passes here is another model to any other reader.

MODEL_READER_TRIALS is the number of JSON bodies, of which a million takes about ten minutes; a twentieth as many forms
are read. MODEL_READER_SEED chooses others. Go is compiled at first, which takes a minute.
"""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.readers import external, python
from support.readers.chance import Chance
from support.readers.form_bodies import form
from support.readers.json_bodies import json_body

from addon.reading import strict_json
from addon.reading.head import Head
from addon.reading.requests import of_body
from store.request import Reading

pytestmark = pytest.mark.soak("addon/protocol", "addon/reading")

TRIALS = int(os.environ.get("MODEL_READER_TRIALS", "40000"))
BATCH = 1000
MOST = 2**20
JSON = b"application/json"
SEED = int(os.environ.get("MODEL_READER_SEED", "24"))


@pytest.fixture(autouse=True)
def _languages() -> None:
    if lacking := external.missing():
        pytest.skip(f"not installed: {', '.join(lacking)}")


def read(content_type: bytes, body: bytes, length: int = MOST) -> Reading:
    head = Head("POST", b"/v1/x", ((b"content-type", content_type),))
    return of_body(head, (body[start : start + length] for start in range(0, len(body), length)), MOST)


def batches(trials: int) -> Iterator[int]:
    yield from (min(BATCH, trials - start) for start in range(0, trials, BATCH))


def test_no_json_that_passes_is_another_model_to_another_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = Chance(SEED)
    counts: Counter[str] = Counter()
    with external.running("json", tmp_path) as readers:
        for size in batches(TRIALS):
            made = [json_body(chance) for _ in range(size)]
            known = [read(JSON, body) for body in made]
            with monkeypatch.context() as patch:
                patch.setattr(strict_json, "WHOLE", -1)
                for body, reading in zip(made[::4], known[::4], strict=True):
                    assert_same(body, reading, read(JSON, body, chance.randrange(1, 20)), counts)
            others = {reader.name: reader.read([(JSON, body) for body in made]) for reader in readers}
            others["Python"] = [python.read_json(body) for body in made]
            others["YAML"] = [[python.read_yaml(body)] if not number % 50 else [] for number, body in enumerate(made)]
            for name, readings in others.items():
                for body, reading, values in zip(made, known, readings, strict=True):
                    count_json(name, body, reading, values, counts)
            counts["bodies"] += size
            counts["pass"] += sum(not reading.doubt for reading in known)
    show(counts)
    assert counts["pass"] > TRIALS / 4
    assert counts["doubts that readers read differently"] > TRIALS / 20


def assert_same(body: bytes, whole: Reading, outlined: Reading, counts: Counter[str]) -> None:
    counts["outlined"] += 1
    if whole.doubt or outlined.doubt:
        assert bool(whole.doubt) == bool(outlined.doubt), (body, whole, outlined)
    assert whole.models == outlined.models, body


def count_json(name: str, body: bytes, reading: Reading, values: list[object], counts: Counter[str]) -> None:
    accepted = [value for value in values if value is not None]
    counts[f"accepted by readers of {name}"] += len(accepted)
    if reading.doubt:
        counts["doubts that readers read differently"] += len(set(map(str, accepted))) > 1
    else:
        assert all(value == reading.models[0] for value in accepted), (name, body, reading, values)


def test_no_form_that_passes_is_another_model_to_another_reader(tmp_path: Path) -> None:
    chance = Chance(SEED)
    counts: Counter[str] = Counter()
    trials = TRIALS // 20
    with external.running("form", tmp_path) as readers:
        for size in batches(trials):
            made = [form(chance) for _ in range(size)]
            known = [read(kind, body, chance.choice((1, 7, MOST))) for kind, body in made]
            others = {reader.name: reader.read(made) for reader in readers}
            others["Python"] = [[*python.read_form(kind, body)] for kind, body in made]
            for name, readings in others.items():
                for request, reading, found in zip(made, known, readings, strict=True):
                    count_form(name, request, reading, found, counts)
            counts["forms"] += size
            counts["pass"] += sum(not reading.doubt for reading in known)
    show(counts)
    assert counts["pass"] > trials / 5


def count_form(
    name: str, request: external.Request, reading: Reading, found: list[object], counts: Counter[str]
) -> None:
    accepted = [fields for fields in found if fields is not None]
    counts[f"accepted by readers of {name}"] += len(accepted)
    if reading.doubt:
        counts["doubts that readers read differently"] += len(set(map(str, accepted))) > 1
    else:
        assert all(fields == [["model", reading.models[0]]] for fields in accepted), (name, request, reading, found)


def show(counts: Counter[str]) -> None:
    print(*(f"{count:,} {what}" for what, count in sorted(counts.items())), sep="\n")
