from store.ledger import price_list
from store.ledger.price_list import INPUT, MOST, OUTPUT


def test_the_model_of_a_name_comes_first() -> None:
    found = price_list.search("GPT-4o", "OpenAI")
    first = found.prices[0]
    assert (first.provider, first.model) == ("OpenAI", "gpt-4o")
    assert {first.rates[INPUT], first.rates[OUTPUT]} == {"2.5", "10"}
    assert first.others["web searches (thousand)"] == "10"
    assert first.context_window == 128_000
    assert found.number == len(found.prices) > 3


def test_all_words_of_a_search_are_in_a_models_name() -> None:
    found = price_list.search("mini gpt", "OpenAI")
    assert found.prices
    assert all("mini" in each.model and "gpt" in each.model for each in found.prices)
    assert price_list.search("no-such-model").number == 0
    assert price_list.search("gpt", "No Such Provider").number == 0


def test_a_list_has_an_end() -> None:
    found = price_list.search("")
    assert len(found.prices) == MOST < found.number


def test_a_price_that_depends_on_the_input_is_told_in_words() -> None:
    (price,) = [each for each in price_list.search("gemini-2.5-pro", "Google").prices if each.model == "gemini-2.5-pro"]
    assert price.rates[INPUT] == "1.25, 2.5 above 200,000 tokens"


def test_providers_are_listed_by_name() -> None:
    names = price_list.providers()
    assert {"OpenAI", "Anthropic", "Google"} <= {*names}
    assert sorted(names, key=str.lower) == names
