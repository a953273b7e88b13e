"""The management API: how operators make projects and tokens, over HTTP. Flask, served by waitress.

A request passes, in this order (`create_app` in `app` puts it together):

    request_ids   gets its id
    access_log    starts its clock
    auth          /manage only: the management token, or 401
    contract      /manage only: size (413), media type (415), JSON, schema and unknown names (400), by openapi.yaml
    resources/    projects, tokens, usage, requests, prices, health, docs
    errors        whatever went wrong becomes the one JSON body
    access_log    one line
    request_ids   the ids go onto the answer

`schemas` writes the bodies of its answers, `export` CSV and JSON lines. `server` puts it on a port, and `__main__` does
so alone: `python -m manage_api`. `cli/` is the command `llm-proxy`, `demo/` an upstream to try it with.
"""
