"""The names of settings among the names of other variables: which are there, and which are written wrong."""

from collections.abc import Collection, Iterator, Mapping

LEAST_LENGTH = 8
"""Characters of a setting's name for which a slip is looked for: shorter names are like too many others."""


def given(variables: Mapping[str, str], settings: Collection[str]) -> dict[str, str]:
    """Return the values of settings, by their names in lower case. What is empty is not given.

    Case does not count. Of a name in several cases the one in lower case does, as for `https_proxy` everywhere.
    """
    spellings = sorted(variables, key=str.islower)
    values = {name.lower(): variables[name] for name in spellings if variables[name]}
    return {name: values[name] for name in settings if name in values}


def slips(
    variables: Mapping[str, str], source: str, settings: Collection[str], missing: Collection[str]
) -> Iterator[str]:
    """Tell each variable of a source that is one slip away from one of the settings that are not set."""
    unknown = [name for name, value in variables.items() if value and name.lower() not in settings]
    for name in sorted(unknown):
        for meant in missing:
            if len(meant) >= LEAST_LENGTH and is_slip(name.lower(), meant):
                shown = name.encode("unicode_escape").decode()
                yield (
                    f"{shown} in {source} is no setting, and {meant.upper()} is not set: correct the name; "
                    f"where another program needs it, set {meant.upper()} too"
                )


def is_slip(written: str, meant: str) -> bool:
    """Tell whether one letter is missing, too many or wrong in a text, or two neighbours have changed places."""
    same = next(
        (place for place, (one, other) in enumerate(zip(written, meant, strict=False)) if one != other),
        min(len(written), len(meant)),
    )
    ours, theirs = written[same:], meant[same:]
    is_swap = ours[:2] == theirs[1::-1] and ours[2:] == theirs[2:]
    return written != meant and (ours[1:] == theirs or ours == theirs[1:] or ours[1:] == theirs[1:] or is_swap)
