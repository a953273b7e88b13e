"""The command `llm-proxy`.

    commands      all commands; start, proxy, web and demo are there, the others are imported when they are run
    context       the settings of a command, and the folder of its caller
    supervision/  starts the processes of the gateway, and keeps them running
    rotation, migration, backup, copying      the commands that work on the store
    usage, requests, reading, table           the commands that show the ledger
    options, ids  their options: times, ids, groups, files and databases
    set_up        makes .venv, for run.sh

The demo and its upstream are in `manage_api/demo/`.
"""
