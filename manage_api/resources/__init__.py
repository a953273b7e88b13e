"""The resources of the API, a Flask blueprint each."""
