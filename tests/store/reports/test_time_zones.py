import zoneinfo

import pytest

from store.reports.time_zones import time_zone


@pytest.mark.parametrize(
    "name", ["UTC", "Europe/Berlin", "Asia/Kolkata", "America/Argentina/ComodRivadavia", "Etc/GMT+5", "EST5EDT"]
)
def test_names_of_time_zones_are_found(name: str) -> None:
    assert time_zone(name).key == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "/",
        "/etc/localtime",
        "/usr/share/zoneinfo/Europe/Berlin",
        "../zoneinfo/Europe/Berlin",
        "Europe/../Europe/Berlin",
        "Europe//Berlin",
        "Europe/Berlin/",
        "./UTC",
        "Europe",
        "Europe/Berlin\0",
        "Europe/Berlin\n",
        " UTC",
        "utc",
        "europe/berlin",
        "Europe/Atlantis",
        "localtime",
        "posixrules",
        "posix/Europe/Berlin",
        "right/Europe/Berlin",
        "zone.tab",
        "tzdata.zi",
        "CEST",
        "+02:00",
        "\udcff",
        "x" * 100_000,
        "a/" * 5_000,
    ],
)
def test_other_texts_are_refused_before_a_file_is_opened(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoneinfo, "ZoneInfo", None)
    with pytest.raises(ValueError, match="no time zone"):
        time_zone(name)
