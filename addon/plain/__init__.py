"""The plain path: the usual requests, from socket to socket, without mitmproxy's layers.

A request of HTTP/1.1 in its usual form needs none of the events and commands of the layers, which are most of what a
request costs. Here it takes one task, which makes mitmproxy's own flow and calls the same hooks in the same order. All
other requests are handed over, between two requests and with all bytes read so far, to mitmproxy's connection handler,
and so to `addon/layers`: TLS, HTTP/2, WebSockets, chunked and large uploads, and all that is malformed. So nothing is
accepted here that the strict codec rejects.

handler              puts it before mitmproxy's handler of connections, which takes over from it
path                 holds the parts that its connections share
accepting            the requests that it takes
client_connection    a client's socket: requests one after another, the rest of a refused one, the hand-over
stream               one request and its response: the hooks, in order, and the failures
pool                 connections to the upstream, shared by all clients
upstream_connection  an upstream's socket: one request at a time, and its response
response_reader      finds the end of a response
upstream_tls         TLS to the upstream, with mitmproxy's own handshake
deadline             one deadline at a time for a connection
"""
