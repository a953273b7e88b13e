"""Finds the names of settings among other variables: those that are set, and those that are misspelt."""

from collections.abc import Collection, Iterator, Mapping

LEAST_LENGTH = 8
"""Minimum length of a name that is compared with misspelt ones: shorter names resemble too many others."""


def given(variables: Mapping[str, str], settings: Collection[str]) -> dict[str, str]:
    """Return the values of settings, by their names in lower case. An empty value is none.

    Names match in any case. Of several spellings the one in lower case wins, as for `https_proxy` elsewhere.
    """
    spellings = sorted(variables, key=str.islower)
    values = {name.lower(): variables[name] for name in spellings if variables[name]}
    return {name: values[name] for name in settings if name in values}


def slips(
    variables: Mapping[str, str], source: str, settings: Collection[str], missing: Collection[str]
) -> Iterator[str]:
    """Return a message for each variable of a source that is one slip away from a setting that is not set."""
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
    """Tell whether a text differs by one letter that is missing, extra or wrong, or by two that are swapped."""
    same = next(
        (index for index, (one, other) in enumerate(zip(written, meant, strict=False)) if one != other),
        min(len(written), len(meant)),
    )
    ours, theirs = written[same:], meant[same:]
    is_swap = ours[:2] == theirs[1::-1] and ours[2:] == theirs[2:]
    return written != meant and (ours[1:] == theirs or ours == theirs[1:] or ours[1:] == theirs[1:] or is_swap)
