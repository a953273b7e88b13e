"""The proxy: a mitmproxy addon in reverse mode. What happens to a request, in the order of `gateway.py`.

    next_layer       put the keyed layer (`layers/keyed_layer.py`) where mitmproxy would put its HTTP layer
    requestheaders   mask the credentials on the flow (`authentication.py`), check the edge (`edge.py`),
                     read the token; large and endless uploads are admitted here, as they are streamed
    request          admit: the store decides, counts and opens a row in the ledger, then a grant for one destination
                     is kept for this flow, and its meter begins to read along
    (upstream)       the keyed layer sends the grant's key on a copy (`wire.py`), to that destination only; a 401, which
                     quotes a piece of it, becomes a 503 before it reaches the flow (`rejection.py`)
    responseheaders  add the request ids and the upstream's duration; stream what is no small document, with a `tap.py`
    response, error  (or websocket_end) forget the exchange and its grant; one line in the log; settle its row
                     (`settling.py`), with what was read of its usage
    usage_estimated  (a hook of our own, `late_usage.py`) the usage was counted here, some time after the end

`metering/` reads the usage from a copy of the bytes of a request and its answer, however they are coded
(`content_coding.py`), and counts what told none, in a process of its own. `endpoints.py` takes the ids out of paths.
`reserved_endpoints.py` knows the endpoints that no token may reach; `locations.py` keeps redirects at the gateway.

Over a WebSocket `websocket_session.py` admits each response as a request is, and `websocket_events.py` reads which
events ask for one, begin one or end one.

`web/` looks on where mitmproxy is mitmweb: comments, copies of streamed bodies, and conversations as text
(`conversation/`). `websocket_frames.py` bounds what mitmproxy keeps of a WebSocket; `sse.py` decodes event streams.

`exchange.py` is what is known of a request under way, `streaming.py` which bodies are not read whole; `startup.py`
makes the addons for `launching.py` (which `__main__.py` runs, and run.sh starts) and for `proxy.py` (`mitmdump -s`).

Whatever goes wrong on the way becomes an answer (`answers.py`), and without a grant nothing leaves. The package
imports `store`, never `manage_api`. `layers/` and `patches/` build on the private parts of mitmproxy.
"""
