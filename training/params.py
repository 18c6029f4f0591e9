"""Reads params.yaml, once."""

from functools import cache

import yaml

from training import TRAINING


@cache
def params() -> dict:
    return yaml.safe_load((TRAINING / "params.yaml").read_text())
