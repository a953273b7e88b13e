"""The management API: operators manage projects and tokens over HTTP. Flask, served by waitress.

A request passes these modules in this order (`create_app` in `app` assembles them):

    request_ids   assigns its id
    access_log    starts its clock
    auth          /manage only: an administrator's token, or 401; its role, or 403
    contract      /manage only: size (413), media type (415), JSON, schema and unknown names (400), by openapi.yaml
    resources/    projects, tokens, usage, requests, prices, admins, audit, health, docs
    errors        turns any exception into the one JSON error body
    access_log    writes one line
    request_ids   puts the ids onto the response

`schemas` makes the JSON objects of the responses, `export` CSV and JSON lines, and `bodies` reads what is to be created
or changed; the command line uses all three too. `formats` checks ids and times for `contract` and `bodies`. `server`
serves it on a port, `__main__` as a process: `python -m manage_api`. `cli/` is the command `llm-proxy`, `demo/` an
upstream to try it with.
"""
