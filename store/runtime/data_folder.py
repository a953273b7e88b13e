"""The default of DATA_DIR. Help shows it too, so this needs none of the settings."""

from pathlib import Path

_ROOT = Path(__file__).parents[2]
"""The folder of the packages: a clone of the project, or a site-packages."""


def default() -> Path:
    """Return `data`, which run.sh keeps beside itself, in a clone; and the user's own data folder otherwise."""
    if (_ROOT / "run.sh").exists():
        return Path("data")
    import platformdirs  # noqa: PLC0415 - a clone need not load it

    return platformdirs.user_data_path("llm-proxy", appauthor=False)
