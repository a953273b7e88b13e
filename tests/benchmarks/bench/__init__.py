"""What a request costs through the gateway, beside plain mitmdump and nginx: `./run.sh bench`.

`contestants` starts what is compared, `upstream` answers it and `load` asks it, each in processes of their own.
`measuring` has the order of it all, `figures` what became of it, `report` and `plot` show that.
"""
