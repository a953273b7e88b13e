"""The HTTP layers and codecs: mitmproxy's own, with the gateway's rules. They build on its private parts.

install           puts the keyed layer where mitmproxy would put its HTTP layer: for connections and for replays
keyed_layer       sends the key on a copy of the request, and to the pinned destination only
rejecting_layer   its base: puts a 503 in the place of an upstream's 401, before the flow holds it
    answering_layer   the base of that: answers failures in JSON and in time; its parts are the next six files
    request_side      events to the hooks: opens exchanges, refuses requests, gives up those that do not go on
    spool_side        makes the streams, holds back what an upstream's HTTP/2 window does not take
    response_side     events to the wire: writes a JSON response in place of a failure
    upstream_side     the connections to the upstream
    client_side       the client's connection
    stream_state      the state of each stream, shared by these parts
    timeouts          the base of that: deadlines and their timers
    backpressure      stops reading from a peer while too much of its data waits
    spooling          the stream of a request: reads its body whole before it is admitted, where that is needed
client_http1      the codec of clients: rejects malformed HTTP/1 in JSON
client_http2      the same for HTTP/2
client_tls        gives up handshakes that do not end in time
upstream_http1    the codec of upstreams: skips interim responses, rejects ambiguous ones
http1_common      shared by both codecs of HTTP/1: chunked bodies, the last message of a connection
upstream_sockets  opens connections to the upstream, through a forward proxy where there is one
websocket_layer   relays WebSockets, sends the gateway's own messages, cuts both sides alike
"""
