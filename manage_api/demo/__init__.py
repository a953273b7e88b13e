"""A small OpenAI-compatible upstream that needs no key of OpenAI's and no network.

It exists for two audiences. `./run.sh demo` puts it behind the gateway, so that somebody can try every
feature offline. The functional tests use it as their real HTTP upstream, because a mock inside the gateway's
process could not show what really leaves the gateway on a socket.

It holds no model: it answers with a fixed sentence around what the user said (`text`). The shapes on the
wire are those of OpenAI's API reference and are held by tests that speak through the official SDK. Parameters
that would steer a model (`temperature`, `tools`, `n`, `max_tokens`, ...) are accepted and ignored, and any
model name may be asked.

The files, in the order a request meets them: `app` (routes and the server), `handler` (what all answers
share: the record, the key, errors, pacing), one file for each resource, and `text`, `tokens`, `errors` and
`record`, which they build on.
"""
