import pytest
from support.demand.paragraphs import PARAGRAPHS

from addon.demand import counted_texts, of_body
from addon.demand.counted_texts import LONG, counted
from addon.demand.texts import TextBound, text_bound
from addon.demand.vocabularies import Vocabulary

CHAT = "/v1/chat/completions"


@pytest.fixture(autouse=True)
def found(monkeypatch: pytest.MonkeyPatch) -> dict[bytes, TextBound]:
    """The counts that are kept: none before a test."""
    empty: dict[bytes, TextBound] = {}
    monkeypatch.setattr(counted_texts, "_found", empty)
    return empty


@pytest.mark.parametrize("language", PARAGRAPHS)
def test_a_text_has_the_same_tokens_each_time(language: str) -> None:
    text = PARAGRAPHS[language] * (1 + LONG // len(PARAGRAPHS[language]))
    for vocabulary in Vocabulary:
        expected = text_bound(text, vocabulary)
        assert [counted(text.encode()).tokens(vocabulary) for _ in range(2)] == [expected] * 2


def test_a_text_is_counted_once() -> None:
    assert counted(b"word " * LONG) is counted(b"word " * LONG)
    assert counted(b"word " * LONG) is not counted(b"words " * LONG)


def test_no_text_is_kept(found: dict[bytes, TextBound]) -> None:
    counted(b"secret " * LONG)
    ((name, bound),) = found.items()
    assert len(name) == 16
    assert not any(b"secret" in bytes(value) for value in vars(bound).values() if isinstance(value, bytes | bytearray))


def test_few_counts_are_kept(found: dict[bytes, TextBound], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counted_texts, "MOST", 5)
    for number in range(20):
        counted(b"%d" % number)
        assert len(found) <= 5


def test_the_history_of_a_conversation_is_counted_once(found: dict[bytes, TextBound]) -> None:
    system, answer = "You are helpful. " * LONG, "As I said. " * LONG
    messages = [{"role": "system", "content": system}, {"role": "user", "content": "Hi"}]
    first = of_body(CHAT, {"model": "gpt-4o", "messages": messages})
    assert len(found) == 1
    assert of_body(CHAT, {"model": "gpt-4o", "messages": messages}) == first
    more = [*messages, {"role": "assistant", "content": answer}]
    assert of_body(CHAT, {"model": "gpt-4o", "messages": more}).input_tokens > first.input_tokens
    assert len(found) == 2
