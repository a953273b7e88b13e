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

`metering/` reads the usage from a copy of the bytes of a request and its response, and has it estimated in a process of
its own, where none is reported. `protocol/` holds the wire formats, among them the table of endpoints and those that no
token may reach (`reserved_endpoints.py`). `locations.py` keeps redirects at the gateway.

Over a WebSocket `websocket_session.py` admits each response as a request is, by the events that
`protocol/websocket_events.py` reads. `websocket_frames.py` bounds the frames that mitmproxy keeps.

`inspector/` observes where mitmproxy is mitmweb: comments, copies of streamed bodies, and conversations as text.

`exchange.py` is what is known of a request under way, `streaming.py` which bodies are not read whole; `startup.py`
makes the addons for `launching.py` (which `__main__.py` runs, and run.sh starts) and for `proxy.py` (`mitmdump -s`).

Whatever goes wrong on the way becomes an answer (`answers.py`), and without a grant nothing leaves. The package
imports `store`, never `manage_api`. `layers/` and `patches/` build on the private parts of mitmproxy.
"""
