"""The cost of a request through the gateway, beside plain mitmdump and nginx: `./run.sh bench`.

`contestants` starts the programs that are compared, `load` sends them requests and `upstream` answers those, each in
processes of their own. `measuring` has the order of it all, `figures` has the results, `report` and `plot` show them.
"""
