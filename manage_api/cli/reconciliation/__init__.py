"""`llm-proxy reconcile`: compares a provider's usage export with the ledger.

`columns` and `presets` say where an export has its numbers, `cells` reads one of its cells, `provider_export` a whole
file, `comparison` sets it against the ledger, `output` writes the result, `command` is the command.
"""
