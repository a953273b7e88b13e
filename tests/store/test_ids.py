import itertools
import subprocess
import time
import uuid

from support.gateway.processes import ROOT, python

from store.ids import new_request_id


def test_an_id_is_a_uuid_of_version_7_with_its_time() -> None:
    before = time.time_ns() // 1_000_000
    request_id = new_request_id()
    parsed = uuid.UUID(request_id)
    assert str(parsed) == request_id
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert before <= parsed.int >> 80 <= time.time_ns() // 1_000_000


def test_ids_differ_and_sort_by_their_millisecond() -> None:
    ids = [new_request_id() for _ in range(2000)]
    assert len(set(ids)) == len(ids)
    assert all(first[:13] <= second[:13] for first, second in itertools.pairwise(ids))


def test_processes_that_are_forked_make_different_ids() -> None:
    code = "import os; from store import ids; os.fork(); os.fork(); os.write(1, f'{ids.new_request_id()} '.encode())"
    output = subprocess.run(python("-c", code), check=True, capture_output=True, text=True, cwd=ROOT).stdout
    random_parts = {request_id[19:] for request_id in output.split()}
    assert len(random_parts) == 4
