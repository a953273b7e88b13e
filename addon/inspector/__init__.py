"""The view of mitmweb for operators. It only observes: nothing here decides about a request or changes its bytes.

    operator_view  the addon: its hooks follow the gateway's, and run only where mitmproxy keeps a list of flows
    body_copy      keeps the first part of a streamed body for its flow
    comment        writes the flow's comment: model, usage, project, token; for filters like `~comment project=Search`
    content_view   makes mitmweb show conversations as text
    conversation/  writes that text; pure functions
    flow_list      bounds mitmweb's list of flows
    web_page       adds mitmweb.css to mitmweb's page

`flow_list` and `web_page` build on private parts of mitmproxy (`View._store`, `IndexHandler.render_string`).
"""
