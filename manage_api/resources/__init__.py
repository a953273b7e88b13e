"""The resources of the API, one Flask blueprint each. Requests reach them checked against openapi.yaml."""
