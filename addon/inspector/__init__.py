"""What mitmweb shows an operator. It looks on: nothing here decides about a request or changes a byte of one.

operator_view   the addon: its hooks follow the gateway's where mitmproxy keeps a list of flows, and only there
body_copy       the first part of a body that is streamed, kept for the flow
comment         the flow's comment: model, usage, project and token, for filters such as `~comment project=Search`
content_view    conversations (`conversation/`) as the view that mitmweb takes for them
mitmweb.css     how mitmweb's page shows both
content_coding  the start of a compressed body, also of one that was cut
"""
