from base64 import b64encode

import pytest
from support.gateway.conversations import EMBEDDINGS, request, response


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("one text", "── input 1 ──\none text\n"),
        (["a", "b"], "── input 1 ──\na\n\n── input 2 ──\nb\n"),
        ([1, 2, 3], "── input 1 ──\n[3 tokens]\n"),
        ([[1, 2], [3]], "── input 1 ──\n[2 tokens]\n\n── input 2 ──\n[1 tokens]\n"),
    ],
)
def test_a_request_is_shown(given: object, shown: str) -> None:
    text = request(EMBEDDINGS, {"model": "text-embedding-3-small", "input": given, "dimensions": 3})
    assert text == f"embeddings · text-embedding-3-small\ndimensions: 3\n\n{shown}"


def test_the_vectors_of_a_response_are_counted() -> None:
    data: list[dict[str, object]] = [{"embedding": [0.1, 0.2, 0.3]}, {"embedding": [0.1, 0.2, 0.3]}]
    data.append({"embedding": b64encode(bytes(12)).decode()})
    text = response(EMBEDDINGS, {"model": "m", "data": data, "usage": {"prompt_tokens": 5, "total_tokens": 5}})
    assert text == (
        "embeddings · m\n\n── embeddings ──\n2 of 3 dimensions\n1 of 3 dimensions, in base64\n\n── usage ──\n5 in\n"
    )
