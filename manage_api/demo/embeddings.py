"""`POST /v1/embeddings`: meaningless unit vectors, computed from the text alone."""

import base64
import hashlib
import math
import struct
from typing import Any

from manage_api.demo.errors import invalid_request
from manage_api.demo.handler import ApiHandler
from manage_api.demo.tokens import count_tokens, embeddings_usage

DEFAULT_DIMENSIONS = 1536
MAX_DIMENSIONS = 3072


class Embeddings(ApiHandler):
    """Embeddings."""

    def post(self) -> None:
        """Embed the input: a text, a list of token numbers, or a list of either."""
        body = self.json_body()
        model = self.required(body, "model", str)
        inputs = _inputs(self.required(body, "input", (str, list)))
        dimensions = _dimensions(body.get("dimensions"))
        encode = _encoder(body.get("encoding_format"))
        data = [
            {"object": "embedding", "index": index, "embedding": encode(_vector(given, dimensions))}
            for index, given in enumerate(inputs)
        ]
        usage = embeddings_usage(sum(_weight(given) for given in inputs))
        self.write({"object": "list", "data": data, "model": model, "usage": usage})


def _inputs(given: str | list[Any]) -> list[str | list[int]]:
    inputs = [given] if isinstance(given, str) or all(type(item) is int for item in given) else given
    if not all(given and isinstance(given, (str, list)) for given in inputs):
        raise invalid_request("Every input must be a text or a list of tokens, and not empty.", param="input")
    return inputs


def _dimensions(wanted: object) -> int:
    if wanted is None:
        return DEFAULT_DIMENSIONS
    if type(wanted) is not int or not 1 <= wanted <= MAX_DIMENSIONS:
        raise invalid_request(f"'dimensions' must be from 1 to {MAX_DIMENSIONS}.", param="dimensions")
    return wanted


def _encoder(wanted: object) -> Any:
    encoders = {None: list, "float": list, "base64": _base64}
    if not isinstance(wanted, str | None) or wanted not in encoders:
        raise invalid_request("'encoding_format' must be 'float' or 'base64'.", param="encoding_format")
    return encoders[wanted]


def _vector(given: str | list[int], dimensions: int) -> list[float]:
    """Stretch a hash of `given` to a vector of length one."""
    digest = hashlib.shake_256(repr(given).encode()).digest(2 * dimensions)
    numbers = [number + 0.5 for number in struct.unpack(f"<{dimensions}h", digest)]  # never all zero
    length = math.hypot(*numbers)
    return [number / length for number in numbers]


def _base64(vector: list[float]) -> str:
    """Encode `vector` in the SDK's form: little-endian 32-bit floats."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _weight(given: str | list[int]) -> int:
    return count_tokens([given]) if isinstance(given, str) else len(given)
