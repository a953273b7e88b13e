import itertools
import string

import pytest

from store.runtime.setting_names import given, is_slip, slips

SETTINGS = ("upstream_url", "database_url", "data_dir", "workers")


def edits(name: str) -> set[str]:
    """Make all texts that are one slip away from a name."""
    letters = string.ascii_lowercase + "_"
    parts = [(name[:place], name[place:]) for place in range(len(name) + 1)]
    missing = {head + tail[1:] for head, tail in parts if tail}
    extra = {head + letter + tail for head, tail in parts for letter in letters}
    wrong = {head + letter + tail[1:] for head, tail in parts if tail for letter in letters}
    swapped = {head + tail[1] + tail[0] + tail[2:] for head, tail in parts if len(tail) > 1}
    return (missing | extra | wrong | swapped) - {name}


@pytest.mark.parametrize("name", ["data_dir", "upstream_url", "aabbaabb"])
def test_one_slip_is_one_edit_and_two_are_none(name: str) -> None:
    once = edits(name)
    assert [text for text in once if not is_slip(text, name)] == []
    twice = {text for one in itertools.islice(sorted(once), 0, None, 7) for text in edits(one)} - {name}
    assert [text for text in twice if is_slip(text, name) != (text in once)] == []
    assert not is_slip(name, name)


@pytest.mark.parametrize(
    "name",
    ["UPSTREAM_ULR", "UPSTREM_URL", "UPSTREAM_URLS", "UPSTREAM_URI", "upstream_ulr", "Upstream-Url", "UPSTREAM_URL\n"],
)
def test_a_slip_is_reported_with_both_names_and_without_its_value(name: str) -> None:
    (fault,) = slips({name: "hush-hush", "PATH": "/bin"}, "the environment", SETTINGS, SETTINGS)
    assert fault.startswith(
        f"{name.replace('\n', '\\n')} in the environment is no setting, and UPSTREAM_URL is not set"
    )
    assert "hush-hush" not in fault


@pytest.mark.parametrize(
    "name", ["WORKER", "WORKERS_", "UPSTREAM", "UPSTREAM_UR1S", "URL", "PATH", "UPSTREAM_URL", "upstream_url", ""]
)
def test_other_names_are_no_slips(name: str) -> None:
    assert list(slips({name: "x"}, "the environment", SETTINGS, SETTINGS)) == []


def test_a_slip_of_a_setting_that_is_set_is_ignored() -> None:
    assert list(slips({"DATABASE_URI": "x"}, ".env", SETTINGS, ["upstream_url"])) == []


def test_an_empty_variable_is_no_slip() -> None:
    assert list(slips({"UPSTREAM_ULR": ""}, ".env", SETTINGS, SETTINGS)) == []


def test_settings_are_given_in_any_case_and_not_empty() -> None:
    variables = {"Upstream_Url": "a", "DATA_DIR": "", "workers": "2", "OTHER": "x"}
    assert given(variables, SETTINGS) == {"upstream_url": "a", "workers": "2"}


@pytest.mark.parametrize("names", [("HTTPS_PROXY", "https_proxy"), ("https_proxy", "Https_Proxy", "HTTPS_PROXY")])
def test_the_spelling_in_lower_case_wins(names: tuple[str, ...]) -> None:
    assert given({name: name for name in names}, ["https_proxy"]) == {"https_proxy": "https_proxy"}
    assert given({**dict.fromkeys(names, "set"), "https_proxy": ""}, ["https_proxy"]) == {"https_proxy": "set"}


def test_the_names_that_other_programs_know_are_settings_and_no_slips_of_each_other() -> None:
    names = ["https_proxy", "http_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir"]
    others = ["FTP_PROXY", "ALL_PROXY", "GOPROXY", "RSYNC_PROXY", "SOCKS_PROXY", "SSL_CERT", "NIX_SSL_CERT_FILE"]
    variables = dict.fromkeys([*others, "http_proxy"], "set")
    assert list(slips(variables, "here", names, [name for name in names if name != "http_proxy"])) == []
    assert len(list(slips({"HTTPS_PORXY": "set"}, "here", names, names))) == 1
