"""The command `llm-proxy`.

    commands      the sections of the help, and the module of each command, which is imported when it is run
    context       the settings of a command, and the folder of its caller
    starting      the commands that start the gateway
    supervision/  starts its processes, and keeps them running
    projects, tokens, prices, requests, usage        the commands on what operators manage and read
    rotation, migration, backup, copying             the commands that work on the store as a whole
    reconciliation/  compares a provider's usage export with the ledger
    options, fields  their options: times and names; limits and policies, as fields of the API's bodies
    ids, completion  look up names; offer them to a shell
    asking        asks before something is destroyed, and for keys
    reading, table, showing                          run a command on the store, and write its result
    set_up        makes .venv, for run.sh

The demo and its upstream are in `manage_api/demo/`.
"""
