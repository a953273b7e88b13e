"""A small OpenAI-compatible upstream that needs no key of OpenAI's and no network.

It has two uses. `./run.sh demo` puts it behind the gateway, to try every feature offline (`command`). The functional
tests use it as their real HTTP upstream: a mock in the gateway's process could not show the bytes on its socket.

It has no model: it answers with a fixed sentence around the user's message (`text`). Its messages have the form of
OpenAI's API reference; tests with the official SDK hold that. Parameters of a model (`temperature`, `tools`, `n`,
`max_tokens`, ...) are accepted and ignored, and any model name is accepted.

The files, in the order in which a request meets them: `app` (routes and the server), `handler` (the base of all
handlers: record, key, errors, pacing), one file for each resource, and `text`, `tokens`, `errors` and `record`, which
they use.
"""
