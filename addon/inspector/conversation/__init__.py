"""Writes bodies of chat completions, responses and embeddings as text for operators. Pure functions, no mitmproxy.

    rendering   the format of a path, and the text of its requests, responses and event streams
    chat        the format of /v1/chat/completions; joins the chunks of a stream to one response
    responses   the format of /v1/responses; likewise
    embeddings  the format of /v1/embeddings: their number and length, never their values
    parts       the content of a message: texts, and images, sounds and files by their size
    usage       the tokens that a response reports
    layout      headings and blocks

No body raises; the result is None where a body has another form.
"""
