"""Reads the usage of a request from a copy of its bytes as they pass: cheap, in constant memory, and without raising.

    meter         reads one request and its response; the gateway feeds it
    body          decodes a body as it arrives
    event_stream  reads the usage and the model in the events of a response
    session       sums the usages of a WebSocket
    names         models and service tiers as they may stand in the ledger
    unknown_usages    logs the forms of usages that cannot be read
    estimates/    the tokens of responses that reported no usage:
        transcript        keeps what a response said so far
        text_accumulator  joins the deltas in it to texts
        estimate_request  the request for an estimate, as it goes through a pipe
        estimator         has it counted, in a process of its own
        tokenizer         that process
        counting          counts the tokens of a request and of the texts

Nothing here knows mitmproxy; of the store only `store.ledger.usage` is used, and of the addon only `protocol/`.
"""
