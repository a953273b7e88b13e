"""The proxy: a mitmproxy addon in reverse mode. The way of a request, hook by hook, with the files to read in order.

    (connection)     `layers/keyed_layer.py` stands where mitmproxy has its HTTP layer; it opens an exchange for each
                     request (`layers/request_side.py`), whose states are in `exchange.py`
    requestheaders   `gateway.py`, which holds all hooks: mask the credentials on the flow and extract the token
                     (`authentication.py`), validate the request (`validation.py`); an upload that is streamed
                     (`streaming.py`) is admitted here, any other request in `request`; an upload whose body a policy
                     has to see first goes into a spool (`spool.py`)
    request_spooled  (a hook of our own) admit an upload whose body is in its spool; it is streamed from there on
    request          admit (`admitting.py`): the store decides, counts and opens a row in the ledger
                     (`store/admission`); the exchange gets a grant for one destination, and a meter
    (upstream)       the keyed layer checks the grant and sends its key on a copy (`forwarding.py`)
    responseheaders  add the request ids, the upstream's duration and the standing of a window
                     (`rate_limit_headers.py`); stream a response that is no small document
    response, error  (or websocket_end) finish the exchange: `ending.py` settles its row, notes the usage on the
                     flow (`annotations.py`) and logs a line (`access_log.py`)
    usage_noted      (a hook of our own) the usage was estimated, or noted where mitmproxy calls no hook

Everything that goes wrong on the way refuses the exchange, and its refusal becomes the response (`responses.py`);
`failures.py` says with which error and when. Without a grant nothing leaves.

Beside that way:

    reverse_mode        options, pinned upstreams, start and stop of the port
    cross_origin        pages in browsers: whose may read a response, and what they are told before they ask
    shown_models        the list of models, without those that a token may not use
    token_standing      what `GET /token` tells; `gateway.py` answers for the paths of the proxy itself
    rejection           an upstream's 401, which quotes a piece of the key, becomes a 503 before it reaches the flow
    locations           keeps redirects at the gateway
    websocket_session   admits each response over a WebSocket as a request is
    websocket_handshake recognizes its opening; websocket_frames bounds the frames that mitmproxy keeps
    cuts                ends what runs for tokens that have ended; a stream gets a last event (`protocol/last_event.py`)
    growth              reserves more for a stream that shows more output than was reserved, or has it cut
    remembered          keeps what pure functions of names and paths return
    __main__, proxy     the entries: the launcher, which run.sh starts, and `mitmdump -s`

    layers/     the HTTP layers and codecs          patches/   process-wide changes of mitmproxy
    protocol/   wire formats, without mitmproxy     metering/  reads usage from a copy of the bodies, or estimates it
    serving/    starts and stops the process        inspector/ comments, copies and conversations in mitmweb

The package imports `store`, never `manage_api`. Only `layers/`, `patches/`, `serving/` and `inspector/` build on the
private parts of mitmproxy.
"""
