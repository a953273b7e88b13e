"""The parts that lean on mitmproxy's private interfaces, which is why its version is pinned.

    keyed_layer   the HTTP layer that sends the key on a copy, and to the pinned destination only
    rejecting_layer  its base: puts a 503 in the place of an upstream's 401, before the flow holds it
    answering_layer  the base of that: answers failures in JSON, and decides what is given up when
    timed_layer   the base of that: has an eye on the time (deadlines)
    backpressure  reads no more from a peer than is taken
    client_codec  refuses malformed HTTP/1, in JSON (chunks: malformed bodies)
    client_http2  leaves headers of HTTP/2 that are too large to the edge, refuses an announced body that is none, tells
                  clients to go when the process ends
    client_tls    gives up handshakes that do not end
    upstream_codec  passes over interim answers, refuses ambiguous ones, frames bodies that came over HTTP/2
    websocket_ends  cuts a WebSocket whose other side was cut
    persistence   knows the last message of a connection, for both codecs of HTTP/1
    replay        has mitmproxy's replays pass the keyed layer too
    connections   closes the connections that mitmproxy forgets, tells of each attempt to open one, keeps them alive
    upstream_sockets  opens them, through a forward proxy where there is one
    authorities   trusts more of them for upstreams than mitmproxy does
    kills         ends intercepted flows that an operator kills
    next_layer    puts the keyed layer where mitmproxy would put its own
    lean_imports  imports of its addons what is needed alone
    lean_master   runs mitmproxy with the few of its addons that the gateway needs
    dispatch      calls the addons that have a hook, and asks no others
    headers       looks headers up faster
    contexts      copies contexts faster
    chain         puts our addons before all others, so that none sees what is not masked yet
    flow_list     takes the oldest flows out of mitmweb's list
    web_page      adds a style to mitmweb's page
    own_files     reads mitmproxy's config.yaml and CA, and tells what is wrong with them
    listening     opens the port once the addon is there, and closes it to drain
    log_records   keeps what was on the wire out of the log, and mitmproxy's own log handler from doubling ours

Each has a test that fails when mitmproxy changes the part it leans on.
"""
