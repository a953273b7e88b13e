"""The pages of the management port, for operators who would rather look than read JSON.

A request passes these modules in this order (`site.blueprint` assembles them):

    protection    a form: sent by a page of ours (Origin, Sec-Fetch-Site), or 403
    gate          the session of the cookie, or the login; the administrator's role, or 403
    protection    a form: made for this session, or 403
    login, overview, start, projects, tokens, requests, reports, audit, prices, admins, status
    problems      turns an exception into a page
    protection    puts the headers onto the response that bind browsers

`forms` makes the bodies of the API of what a form sent, so that no rule is written twice. `rendering` has the words and
numbers of the templates, `charts` their charts. Lists read their query with `filters` and are written as files with
`downloads`; `explanations` says how a request ended. Each page works without JavaScript; `static/pages.js` adds what is
nice to have.
"""
