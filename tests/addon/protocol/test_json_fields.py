import pytest

from addon.protocol.json_fields import parse, parse_all

OBJECTS = [b'{"a": 1}', b'{"b": "\xc3\xa9"}']


@pytest.mark.parametrize("other", [b"", b"[1]", b'"text"', b"{", b"1],[2", b'{"c": "\xff"}'])
def test_documents_are_parsed_at_once_as_they_are_one_by_one(other: bytes) -> None:
    documents = [OBJECTS[0], other, OBJECTS[1]]
    assert [found for found in parse_all(documents) if found] == [found for found in map(parse, documents) if found]
