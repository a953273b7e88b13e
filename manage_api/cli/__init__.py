"""The command `llm-proxy`: `commands` has its commands, and what they do is in the other files.

    supervision/  starts the processes of the gateway, and keeps them running
    rotation, migration, backup, copying      what is done to the store
    usage, requests, reading, table           what is read from the ledger, and how it is shown
    options, ids  the times, ids and groups that the ledger's commands are asked for; files where the caller stands
    set_up        makes .venv, for run.sh

The demo and its upstream are in `manage_api/demo/`.
"""
