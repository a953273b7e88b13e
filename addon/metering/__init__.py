"""What a request took, read from a copy of its bytes as they pass: cheap, in constant memory, and without ever raising.

    meter        reads along one request and its answer; what the gateway feeds
    body         a body as it comes, decoded
    excerpt      what is kept of a JSON document or a form
    outline      the fields that can be read in it, or in an event
    event_stream the events of an answer
    session      the messages of a WebSocket
    usage        the usage objects of the API as units of genai-prices
    names        models and service tiers as they may stand in the ledger
    transcript   what an answer said so far, for when it tells no usage
    said         the texts in it
    question     what is to be counted then
    estimator    has it counted, in a process of its own:
    tokenizer    that process
    counting     the tokens of a request and of what was said

Nothing here knows mitmproxy; of the store only `store.ledger.usage` is used.
"""
