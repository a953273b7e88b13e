"""openapi.yaml, read once for all tests, by the parser in C: that takes an eighth of the time."""

from typing import Any

import yaml

from manage_api.bodies import OPENAPI

DOCUMENT: Any = yaml.load(OPENAPI.read_text(), yaml.CSafeLoader)
