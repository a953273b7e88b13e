"""Reads the models that a request asks for, with certainty: a policy judges the model that the upstream will judge.

Readers of JSON, of forms and of HTTP differ. What two of them may take differently is no model here but a doubt: a
sentence that says why, and what to do. A request that a policy judges must be read without one. Bytes in, facts out:
nothing here knows mitmproxy, a socket or the store.

    requests         a request's models: by its head where that tells, else by its body
    events           the models that a client's message over a WebSocket names
    head             a request's head: its media type, its content coding, its query, headers that route it
    generating       how an endpoint generates, and so where it names its model
    model_paths      models that stand in a path
    strict_json      JSON that all readers read alike; `outline` shortens a large body for it
    places           the fields of a JSON object that name models
    strict_form      multipart forms that all readers read alike
    names            names of fields and of models
    doubt            the exception that carries a doubt

The package imports `protocol`, `demand` and `remembered` of the addon alone.
"""
