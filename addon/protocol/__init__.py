"""The wire formats of the API, without mitmproxy: bytes in, facts out.

    endpoints           the table of endpoints: their names in the ledger, and the shape of what each takes and returns
    reserved_endpoints  those that no token may reach
    content_coding      decodes gzip, zlib, brotli and zstd in small steps
    whole_coding        decodes a body that is exactly one gzip, brotli or zstd
    sse                 decodes event streams
    json_fields         reads fields of JSON of unknown form
    head_and_tail       keeps a bounded part of a body of any size
    partial_json        reads the outer fields of JSON that is large or was cut
    form_fields         reads the model that a multipart form names
    usage_objects       the usage objects of the API, in the units of the ledger; the only reader of them
    usages_by_model     divides a usage by the models that it is paid for
    last_event          the event that ends a stream with an error, for each API
    websocket_events    the events that begin, end or refuse a response over a WebSocket

Other packages of the addon import this one; it imports none of them.
"""
