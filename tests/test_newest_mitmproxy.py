import tomllib
from pathlib import Path

from newest_mitmproxy import NEWEST, ROOT, TESTS, requirements


def test_everything_that_the_tests_need_is_installed_with_mitmproxy_unpinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = requirements(project)
    assert [one for one in found if "mitmproxy" in one] == [NEWEST]
    assert not [one for one in found if one.startswith("llm-proxy")]
    assert {one.split(">")[0].split("[")[0] for one in found} >= {"h11", "pytest", "bpe-openai", "openai"}


def test_the_folders_of_its_tests_exist() -> None:
    assert all(Path(ROOT / folder).is_dir() for folder in TESTS)
