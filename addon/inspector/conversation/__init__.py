"""Bodies of chat completions, responses and embeddings as text that an operator reads. Pure functions, no mitmproxy.

    rendering    which endpoint a path is, and the text of its requests, answers and event streams
    chat         /v1/chat/completions, and how the chunks of a stream make one answer
    responses    /v1/responses, the same
    embeddings   /v1/embeddings: how many and how long, never the numbers
    parts        what a message holds: texts, and images, sounds and files by their size
    usage        the tokens that an answer says it took
    layout       headings and blocks
    fields       reading JSON of which nothing is known

Whatever peers send is looked at without an exception; where the shape is another one, the answer is None.
"""
