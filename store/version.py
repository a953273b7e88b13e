"""The version of the project. `pyproject.toml` reads it from here: it is known without an installation."""

__version__ = "0.2.0"
