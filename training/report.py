"""Figures as JSON files, whole or not at all."""

import json
from pathlib import Path

from training import REPOSITORY


def write_json(path: Path, value: object) -> None:
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """An interrupted write leaves the file that was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(text)
    unfinished.rename(path)


def load_json(path: Path) -> dict | None:
    """None where there is no such file."""
    return json.loads(path.read_text()) if path.exists() else None


def read_json(path: Path, made_by: str) -> dict:
    """`made_by` is the command that would write the file: what to run where it is not there."""
    value = load_json(path)
    if value is None:
        raise SystemExit(f"{shown(path)} is not there: run `{made_by}` first")
    return value


def shown(path: Path) -> str:
    return str(path.relative_to(REPOSITORY) if path.is_relative_to(REPOSITORY) else path)
