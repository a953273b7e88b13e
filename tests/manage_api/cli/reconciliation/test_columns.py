from manage_api.cli.reconciliation.columns import NUMBERS, option_of


def test_every_number_of_the_ledger_has_an_option_of_its_own() -> None:
    options = {number: option_of(number) for number in NUMBERS}
    assert options["requests"] == "requests"
    assert options["cached_input_tokens"] == "cached-input"
    assert options["cost_usd"] == "cost"
    assert len({*options.values()}) == len(NUMBERS)
    assert not {*options.values()} & {"day", "model", "by", "from", "to", "project", "endpoint", "all", "format"}
