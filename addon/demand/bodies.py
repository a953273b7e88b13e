"""Reads a request's body for the most that it may use, by its endpoint."""

import functools
import math
import re
from collections.abc import Callable, Mapping

from addon.demand.bounds import TELLING, tells_by_name, why_unbounded
from addon.demand.contents import add_content, add_item, add_message
from addon.demand.cut import TEXTS, Cut
from addon.demand.media import add_picture
from addon.demand.outputs import (
    OF_CHAT,
    OF_MESSAGES,
    OF_RESPONSES,
    UNKNOWN,
    Limits,
    choices_of,
    limit_of,
    whole,
)
from addon.demand.picture_scale import scale_of
from addon.demand.sound import audio_tokens, seconds_of
from addon.demand.tally import Tally
from addon.demand.tools import FORMATS, add_schema, add_tools
from addon.demand.vocabularies import Vocabulary, vocabulary_of
from addon.protocol.endpoints import REALTIME, RESPONSES, shape_of
from addon.protocol.json_fields import Fields, fields, items, text
from addon.remembered import remembered
from store.ledger.usage import MAX_COUNT, Conditions, Units
from store.request import Demand

type Form = Mapping[str, object]
"""The fields of a form: texts, and the bytes of files, or their beginnings as a `Cut`."""

_IDLE = re.compile(
    r"/v1/(files|uploads|vector_stores|containers|skills|assistants|models|tokenize|organization)\b"
    r"|/v1/(responses/input_tokens|messages/count_tokens|threads$|threads/\{id\}(/messages.*)?$)"
    r"|/v1/evals(/\{id\})?$"
)
"""Endpoints that generate nothing."""

_BASES: tuple[tuple[str, int], ...] = (("gpt-oss", 120), ("grok", 800), ("claude", 16))
"""Tokens that a model reads before the first message, by a part of its name: the system message of gpt-oss's format,
and what xAI adds (https://docs.x.ai/docs/key-information/consumption-and-rate-limits)."""
_BASE: Mapping[Vocabulary, int] = {Vocabulary.O200K: 3, Vocabulary.OTHER: 48, Vocabulary.CLAUDE: 16}
"""Those of all others: what begins an answer, and a date or a default system message in templates of open models."""

_DEARER_TIERS = frozenset({"priority", "fast"})
_WRITES_BY_ITSELF = re.compile(r"gpt-(5\.[6-9]|[6-9])")
"""OpenAI's models whose writes to the cache are paid, though no request asks for them."""

_PICTURE_TOKENS: Mapping[str, int] = {"low": 408, "medium": 1584, "high": 6240}
"""Tokens of an image that OpenAI's models make, at most of the usual sizes, by its quality
(https://platform.openai.com/docs/guides/image-generation#cost-and-latency)."""
_PARTIAL_PICTURE = 100

_SPEECH_START, _SPEECH_PER_BYTE = 150, 3
"""Tokens of audio: a second has 21, and in it at least 7 bytes of text are spoken, slowly."""
_HEARD_PER_SECOND, _HEARD_START = 8, 150
"""Tokens of text that are spoken in a second at most, and those of a transcript's format."""


def of_body(endpoint: str, body: Fields) -> Demand:
    """Return the most that a POST may use. The body is JSON, or a form; long strings in it may be `Cut`.

    The endpoint is that of `endpoint_of`.
    """
    if _is_idle(endpoint):
        return Demand()
    given = fields(body, "response") if endpoint == REALTIME else body
    is_usual = not [
        name
        for name, value in given.items()
        if name in _SPECIAL or (name not in _READ and isinstance(value, _WITH_TEXTS))
    ]
    tally = Tally([text(given, "model")] if is_usual else _models(given), is_usual=is_usual)
    found = _READERS.get(endpoint, _of_other)(tally, given)
    if is_usual and not tells_by_name(endpoint, tally.models):
        return found
    conditions = _conditions(given)
    why = why_unbounded(endpoint, given, tally.models)
    return found._replace(conditions=conditions, unbounded=why) if conditions or why else found


@functools.lru_cache(256)
def _is_idle(endpoint: str) -> bool:
    return _IDLE.match(endpoint) is not None or shape_of(endpoint).post_rereads


def _models(body: Fields) -> list[str]:
    """Return the models that a request names: one, and those that a router may choose as well."""
    others = map(_name_of, (*items(body, "models"), *items(body, "fallbacks")))
    return [name for name in (text(body, "model"), *others) if name] or [""]


def _name_of(model: object) -> str:
    return model if isinstance(model, str) else text(fields(model), "model")


def _of_chat(tally: Tally, body: Fields, limits: Limits = OF_CHAT) -> Demand:
    for message in items(body, "messages"):
        add_message(tally, message)
    for name in _BESIDE_MESSAGES:  # some upstreams read these as well
        if name in body:
            add_content(tally, body[name])
    return _of_answer(tally, body, limits)


def _of_messages(tally: Tally, body: Fields) -> Demand:
    tally.add_cache_control(body)
    return _of_chat(tally, body, OF_MESSAGES)


def _of_response(tally: Tally, body: Fields, limits: Limits = OF_RESPONSES) -> Demand:
    for name in ("instructions", "input", "messages", "documents"):
        given = body.get(name)
        for item in given if isinstance(given, list) else [given]:
            add_item(tally, {"content": item} if isinstance(item, TEXTS) else item)
    if any(body.get(name) is not None for name in ("previous_response_id", "conversation", "prompt")):
        tally.refers = True
        tally.add_json(fields(body, "prompt").get("variables"))
    return _of_answer(tally, body, limits)


def _of_compaction(tally: Tally, body: Fields) -> Demand:
    """Read a request to compact a response, which takes no limit."""
    return _of_response(tally, body, UNKNOWN)


def _of_realtime(tally: Tally, body: Fields) -> Demand:
    """Read an event of a session, whose earlier content the upstream keeps."""
    tally.refers = True
    return _of_response(tally, body)._replace(speaks=True)


def _of_answer(tally: Tally, body: Fields, limits: Limits) -> Demand:
    """Read what messages and responses have in common, when their own input has been added."""
    if not tally.is_usual:
        _add_special(tally, body)
    tally.add_tokens(max(map(_base, tally.models)))
    return _demand(tally, body, limits, 0 if tally.is_usual else _guess(tally, body))


def _add_special(tally: Tally, body: Fields) -> None:
    """Add what few requests have: tools, a schema of the answer, and texts that are not known."""
    add_tools(tally, body)
    add_schema(tally, body)
    for name, value in body.items():
        if name not in _READ and isinstance(value, _WITH_TEXTS):
            add_content(tally, value)


@remembered
def _base(model: str) -> int:
    return next((tokens for part, tokens in _BASES if part in model.lower()), _BASE[vocabulary_of(model)])


def _guess(tally: Tally, body: Fields) -> int:
    """Return the tokens of a predicted output: those that are not used are paid beside the output."""
    prediction = Tally(tally.models)
    add_content(prediction, fields(body, "prediction").get("content"))
    return prediction.tokens


def _demand(tally: Tally, body: Fields, limits: Limits, guessed: int = 0, inputs: int = 1) -> Demand:
    choices, limit = inputs * (1 if tally.is_usual else choices_of(body)), limit_of(body, limits)
    output = None if limit is None else min((limit + guessed) * choices, MAX_COUNT)
    speaks = not tally.is_usual and _speaks(body)
    return Demand(tally.tokens, output, choices, _units(tally), (), speaks, tally.refers)


def _speaks(body: Fields) -> bool:
    return "audio" in items(body, "modalities") or bool(fields(body, "audio"))


def _units(tally: Tally) -> Units:
    if any(map(_writes_by_itself, tally.models)):
        return {**tally.units, "cache_write_tokens": tally.tokens}
    return tally.units


@remembered
def _writes_by_itself(model: str) -> bool:
    return _WRITES_BY_ITSELF.match(model.lower().rpartition("/")[2]) is not None


def _of_completion(tally: Tally, body: Fields) -> Demand:
    prompts = _add_inputs(tally, body.get("prompt"))
    add_content(tally, body.get("suffix"))
    return _demand(tally, body, OF_CHAT, inputs=prompts)


def _of_input(tally: Tally, body: Fields) -> Demand:
    """Read an embedding or a moderation: texts, tokens, or parts, and no output."""
    for name in ("input", "inputs", "texts", "images"):
        _add_inputs(tally, body.get(name))
    _add_instructions(tally, body)
    return Demand(tally.tokens, units=tally.units, refers=tally.refers)


def _add_inputs(tally: Tally, given: object) -> int:
    """Add texts, tokens, or lists of either; return how many inputs these are, at least one."""
    if given is None:
        return 1
    if not isinstance(given, list):
        add_content(tally, given)
        tally.add_tokens(_AROUND_INPUT)
        return 1
    if given and all(isinstance(item, int) for item in given):
        tally.add_tokens(len(given) + _AROUND_INPUT)
        return 1
    return max(sum(_add_inputs(tally, item) for item in given), 1)


_AROUND_INPUT = 2
"""Tokens that begin and end an input of an embedding."""


def _of_rerank(tally: Tally, body: Fields) -> Demand:
    """Read a query, which counts with each of the documents."""
    documents = items(body, "documents") or items(body, "text_2")
    query = Tally(tally.models)
    add_content(query, body.get("query") or body.get("text_1"))
    tally.add_tokens((query.tokens + _AROUND_PAIR) * max(len(documents), 1))
    for document in documents:
        add_content(tally, document)
    _add_instructions(tally, body)
    return Demand(tally.tokens, refers=tally.refers)


_AROUND_PAIR = 4
"""Tokens that begin, part and end a query and a document."""


def _add_instructions(tally: Tally, body: Fields) -> None:
    """Add what some models read before each input: Qwen's and Voyage's are told what to look for."""
    apart = Tally(tally.models)
    for name in ("instruction", "instructions", "prompt", "task_description"):
        add_content(apart, body.get(name))
    inputs = max((len(items(body, name)) for name in ("input", "inputs", "texts", "documents")), default=0)
    tally.add_tokens(apart.tokens * max(inputs, 1))


def _of_speech(tally: Tally, body: Fields) -> Demand:
    for name in ("input", "instructions"):
        add_content(tally, body.get(name))
    tally.add_tokens(_BASE[tally.vocabulary])
    given = body.get("input")
    size = (
        given.size if isinstance(given, Cut) else len(given.encode(errors="replace")) if isinstance(given, str) else 0
    )
    units = {"input_characters": size}
    return Demand(tally.tokens, _SPEECH_START + _SPEECH_PER_BYTE * size, units=units, speaks=True)


def _of_pictures(tally: Tally, body: Form) -> Demand:
    """Read a request for images: each has at most the tokens of its quality, more where it is larger than usual."""
    add_content(tally, body.get("prompt"))
    tally.add_tokens(_AROUND_PROMPT)
    for name, value in body.items():
        if name.rstrip("[]0123456789") in {"image", "images", "mask", "input_image"}:
            for image in value if isinstance(value, list) else [value]:
                add_picture(tally, image, "high")
    number = choices_of(dict(body))
    quality = _PICTURE_TOKENS.get(str(body.get("quality")), max(_PICTURE_TOKENS.values()))
    scale = scale_of(body.get("size")) or 1  # of one that is not read nothing bounds the request
    each = math.ceil(quality * scale) + _PARTIAL_PICTURE * (whole(body.get("partial_images")) or 0)
    return Demand(tally.tokens, min(number * each, MAX_COUNT), number, {"output_images": number})


_AROUND_PROMPT = 16
"""Tokens around the prompt of an image."""


def _of_transcription(tally: Tally, body: Form) -> Demand:
    """Read a form with a recording, which is paid by its seconds or by its tokens."""
    add_content(tally, body.get("prompt"))
    file = body.get("file")
    seconds = 0
    if isinstance(file, bytes):
        seconds = seconds_of(file[:1024], len(file))
    elif isinstance(file, Cut):
        seconds = seconds_of(file.start.encode("latin-1", "replace"), file.size)
    tally.add_audio(audio_tokens(seconds, tally.models))
    heard = _HEARD_START + _HEARD_PER_SECOND * seconds
    units = {**tally.units, "audio_seconds": seconds}
    return Demand(tally.tokens, heard, units=units, refers=not seconds)


def _of_other(tally: Tally, body: Fields) -> Demand:
    """Read a body of unknown form: all its texts, and perhaps more than these."""
    for name, value in body.items():
        if name in _READ_APART:
            add_content(tally, value)
    tally.refers = True
    return _of_answer(tally, body, UNKNOWN)


def _conditions(body: Fields) -> Conditions:
    """Return the conditions that make a request dearer, under the names of an answer's."""
    tier = text(body, "service_tier")
    found = [("service_tier", tier)] if tier in _DEARER_TIERS else []
    found += [(name, value) for name, value in (("speed", "fast"), ("inference_geo", "us")) if body.get(name) == value]
    return tuple(found)


_READ_APART = frozenset({"messages", "system", "input", "instructions", "prompt", "documents"})
_READ = _READ_APART | {
    "model", "models", "fallbacks", "tools", "functions", "response_format", "text", "output_format", "output_config",
    "prediction", "previous_response_id", "conversation", "metadata", "logit_bias", "user", "safety_identifier",
    "prompt_cache_key", "include", "modalities", "audio", "reasoning_effort", "service_tier", "speed", "stream_options",
}  # fmt: skip
"""Fields that are read elsewhere, or that a model does not read. The texts of all others count."""
_WITH_TEXTS = (*TEXTS, list, dict)

_BESIDE_MESSAGES = ("system", "prompt", "input", "instructions", "documents")

_SPECIAL = TELLING | FORMATS | {
    "models", "fallbacks", "functions", "prediction", "modalities", "audio", "service_tier", "speed", "inference_geo",
}  # fmt: skip
"""Fields that few requests have, and that are looked at apart."""


_READERS: Mapping[str, Callable[[Tally, Fields], Demand]] = {
    "/v1/chat/completions": _of_chat,
    "/v1/messages": _of_messages,
    RESPONSES: _of_response,
    "/v1/responses/compact": _of_compaction,
    REALTIME: _of_realtime,
    "/v1/completions": _of_completion,
    "/v1/embeddings": _of_input,
    "/v1/moderations": _of_input,
    "/v1/rerank": _of_rerank,
    "/v1/score": _of_rerank,
    "/v1/audio/speech": _of_speech,
    "/v1/audio/transcriptions": _of_transcription,
    "/v1/audio/translations": _of_transcription,
    "/v1/images/generations": _of_pictures,
    "/v1/images/edits": _of_pictures,
    "/v1/images/variations": _of_pictures,
}
