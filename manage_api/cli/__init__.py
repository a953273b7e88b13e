"""The command `llm-proxy`: `commands` has its commands, and what they do is in the other files.

    processes     what is started, on which `ports`
    supervisor    keeps processes running: a `place` holds one after another, each a `child`
    demo          all of it before a demo upstream (`demo_upstream`)
    rotation, migration, backup, copying      what is done to the store
    usage, requests, reading, table           what is read from the ledger, and how it is shown
    options, ids  the times, ids and groups that the ledger's commands are asked for; files where the caller stands

This text alone is here, so that the demo upstream starts without the others.
"""
