"""Which photographs there are and what is known of them: class folders, or a manifest."""

import csv
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from training import LABELS

REQUIRED = ("path", "label")
OPTIONAL = ("split", "lot", "lamp", "vial_size", "fill_level")
# Splits that a manifest may name; robustness is made of test.
SPLITS = ("train", "validation", "calibration", "test")


@dataclass(frozen=True)
class Photograph:
    """A picture that the source names, and what it says about it; None where it does not."""

    # As messages call it.
    name: str
    file: Path
    label: str
    split: str | None = None
    lot: str | None = None
    lamp: str | None = None
    vial_size: str | None = None
    fill_level: float | None = None


def listed(source: Path) -> tuple[list[Photograph], list[str]]:
    """What the source names, in order, and what is wrong with how it does; no picture is opened."""
    if source.is_dir():
        return in_folders(source)
    if source.suffix.lower() == ".csv" and source.is_file():
        return in_manifest(source)
    what = "neither a folder nor a .csv file" if source.exists() else "not there"
    return [], [f"{source}: it is {what}; give a folder with one folder a label ({', '.join(LABELS)}), or a manifest"]


def in_folders(source: Path) -> tuple[list[Photograph], list[str]]:
    photographs, problems = [], []
    for entry in visible(source):
        if entry.is_dir() and entry.name in LABELS:
            files = visible(entry)
            photographs += [Photograph(f"{entry.name}/{it.name}", it, entry.name) for it in files if it.is_file()]
            problems += [
                f"{entry.name}/{it.name}: a folder in the folder of a label; put its pictures into {entry.name}/"
                for it in files
                if not it.is_file()
            ]
            if not files:
                problems.append(f"{entry.name}: the folder is empty; put the pictures of this label into it")
        elif entry.is_dir():
            problems.append(f"{entry.name}: the folder has not the name of a label; the labels are {', '.join(LABELS)}")
        elif entry.suffix.lower() == ".csv":
            problems.append(
                f"{entry.name}: a manifest beside folders of labels; give the manifest as the source, or take it away"
            )
        else:
            problems.append(f"{entry.name}: a stray file; put it into the folder of its label, or take it away")
    if not photographs and not problems:
        problems.append(f"{source}: the folder is empty; it needs one folder a label: {', '.join(LABELS)}")
    return photographs, problems


def visible(folder: Path) -> list[Path]:
    """Without hidden files: systems leave them where one looks at pictures."""
    return sorted(it for it in folder.iterdir() if not it.name.startswith("."))


def in_manifest(manifest: Path) -> tuple[list[Photograph], list[str]]:
    try:
        # Spreadsheets put a byte order mark in front.
        with open(manifest, encoding="utf-8-sig", newline="") as text:
            reader = csv.DictReader(text, strict=True)
            header = reader.fieldnames or []
            lines = [(reader.line_num, line) for line in reader]
    except (UnicodeDecodeError, csv.Error) as damage:
        return [], [f"{manifest.name}: it cannot be read ({damage}); save it as CSV in UTF-8"]
    problems = header_problems(manifest, header)
    if not problems and not lines:
        problems = [f"{manifest.name}: it names no picture; write a line for each"]
    if problems:
        return [], problems
    photographs = []
    lines_of: dict[str, int] = {}
    for number, line in lines:
        place = f"{manifest.name}:{number}"
        if None in line or None in line.values():
            problems.append(f"{place}: it has not {len(header)} fields, as the header does; quote fields with commas")
            continue
        values = {column: value.strip() for column, value in line.items()}
        found = line_problems(manifest.parent, values)
        first = lines_of.setdefault(values["path"], number)
        if first != number:
            found.append(f"it is in line {first} already; keep one of the lines")
        problems += [f"{place}: {values['path'] or 'no path'}: {problem}" for problem in found]
        if not found:
            photographs.append(photograph(manifest.parent, values))
    if len({it.split is None for it in photographs}) > 1:
        unset = [it for it in photographs if it.split is None]
        problems += [f"{it.name}: no split; name the split of every picture, or of none" for it in unset]
    return photographs, problems


def header_problems(manifest: Path, header: list[str]) -> list[str]:
    known = f"required are {', '.join(REQUIRED)}, and there may be {', '.join(OPTIONAL)}"
    missing = [f"{manifest.name}: no column {column}; {known}" for column in REQUIRED if column not in header]
    unknown = [column for column in header if column not in (*REQUIRED, *OPTIONAL)]
    twice = sorted({column for column in header if header.count(column) > 1})
    return [
        *missing,
        *(f"{manifest.name}: unknown column {column!r}; {known}" for column in unknown),
        *(f"{manifest.name}: two columns {column!r}; keep one" for column in twice),
    ]


def line_problems(folder: Path, values: dict[str, str]) -> list[str]:
    problems = []
    path, split, level = values["path"], values.get("split"), values.get("fill_level")
    # Links are followed, because tools that keep data apart use them; only the path itself is judged.
    is_absolute = PurePosixPath(path).is_absolute() or PureWindowsPath(path).is_absolute()
    if not path:
        problems.append("the path is missing; name the picture's file")
    elif is_absolute or ".." in PurePosixPath(path).parts:
        problems.append("the path leads out of the manifest's folder; give it relative to that, without ..")
    elif not (folder / path).is_file():
        problems.append("there is no such file; paths are relative to the manifest")
    if values["label"] not in LABELS:
        problems.append(f"unknown label {values['label']!r}; the labels are {', '.join(LABELS)}")
    if split and split not in SPLITS:
        problems.append(f"unknown split {split!r}; the splits are {', '.join(SPLITS)}")
    if level and as_share(level) is None:
        problems.append(f"fill_level is {level!r}; write the filled share of the body, 0 to 1")
    return problems


def as_share(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value <= 1 else None


def photograph(folder: Path, values: dict[str, str]) -> Photograph:
    given = {column: values.get(column) or None for column in OPTIONAL}
    if given["fill_level"]:
        given["fill_level"] = as_share(given["fill_level"])
    return Photograph(values["path"], folder / values["path"], values["label"], **given)
