"""Asks the built binary about the pictures of a split, as a server would answer.

Decoding, preprocessing, scores and verdicts are the server's own: nothing is computed twice in
Python. Answers are kept beside the candidate, so that an interrupted evaluation goes on where it was.
"""

import hashlib
import json
import os
import subprocess
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from training import CANDIDATES, DATA, LABELS, REPOSITORY, STAGED
from training.candidates import version_of
from training.judge.decision import Policy
from training.params import params
from training.report import shown
from training.rows import Row, read

# Files that one run of the binary is asked about; it loads the model anew each time.
CHUNK = 1000


@dataclass(frozen=True)
class Answer:
    path: str
    # In the order of LABELS; None without an answer, which is then "undecided", with `error` saying why.
    label_scores: tuple[float, ...] | None
    decision: str
    reason: str
    error: str | None


Judged = list[tuple[Row, Answer]]


@dataclass(frozen=True)
class Staged:
    """One version of a model, in a repository that the binary can be given."""

    repository: Path
    name: str
    version: str

    @property
    def folder(self) -> Path:
        return self.repository / self.name / self.version

    @property
    def digest(self) -> str:
        """As the server states it: of card.json, which names the digest of everything else."""
        return "sha256:" + hashlib.sha256((self.folder / "card.json").read_bytes()).hexdigest()

    @property
    def policy(self) -> Policy:
        settings = tomllib.loads((self.folder / "package.toml").read_text())
        decision = settings["decision"]
        return Policy(settings["calibration"]["temperature"], decision["approve_at"], decision["reject_at"])


def staged(candidate: str, root: Path = STAGED) -> Staged:
    version = Staged(root / candidate, params()["package"]["name"], version_of(candidate))
    if not (version.folder / "card.json").is_file():
        raise SystemExit(
            f"{shown(version.folder)} is not there: run `python -m training.package.stage {candidate}` first"
        )
    return version


def binary() -> Path:
    path = Path(os.environ.get("LINESIGHT") or REPOSITORY / "target" / "release" / "linesight")
    if not path.is_file():
        raise SystemExit(f"{shown(path)} is not there: run `make build`, or set LINESIGHT to the binary")
    return path


def judged(version: Staged, candidate: str, split: str) -> Judged:
    if not (DATA / f"{split}.jsonl").is_file():
        raise SystemExit(f"{shown(DATA / split)}.jsonl is not there: run `python -m training.data.generate` first")
    rows = read(split)
    return list(zip(rows, ask(version, rows, CANDIDATES / candidate / "answers", split), strict=True))


def ask(version: Staged, rows: list[Row], kept_in: Path, name: str, data: Path = DATA) -> list[Answer]:
    """One answer a row, in order; those of an earlier, interrupted call are not asked for again."""
    kept = Kept(kept_in / f"{name}-{version.digest.removeprefix('sha256:')[:16]}.jsonl")
    missing = [row for row in rows if row.sha256 not in kept.answers]
    # No bar where nobody looks: `disable=None` asks whether this is a terminal.
    with tqdm(total=len(rows), initial=len(rows) - len(missing), desc=name, unit="img", disable=None) as bar:
        for start in range(0, len(missing), CHUNK):
            chunk = missing[start : start + CHUNK]
            files = [str(data / row.path) for row in chunk]
            kept.add([row.sha256 for row in chunk], ask_files(version, files))
            bar.update(len(chunk))
    return [kept.answers[row.sha256] for row in rows]


class Kept:
    """Answers in a file, by the digest of the picture's bytes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers: dict[str, Answer] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        written = path.read_bytes()
        # A line without its end was being written when the process was killed.
        os.truncate(path, written.rfind(b"\n") + 1)
        for line in written.splitlines(keepends=True):
            if not line.endswith(b"\n"):
                break
            values = json.loads(line)
            # What went wrong may go right now.
            if values["answer"]["error"] is None:
                self.answers[values["sha256"]] = answer_of(values["answer"])

    def add(self, digests: list[str], answers: list[Answer]) -> None:
        pairs = list(zip(digests, answers, strict=True))
        with open(self.path, "a") as file:
            file.writelines(json.dumps({"sha256": it, "answer": asdict(answer)}) + "\n" for it, answer in pairs)
        self.answers.update(pairs)


def answer_of(values: dict) -> Answer:
    return Answer(**{**values, "label_scores": values["label_scores"] and tuple(values["label_scores"])})


def ask_files(version: Staged, files: list[str]) -> list[Answer]:
    """Raises SystemExit where the binary does not answer about every file."""
    digest = version.digest
    return [parsed(line, digest) for line in predict(version.repository, f"{version.name}/{version.version}", files)]


def predict(repository: Path, model: str, files: list[str]) -> list[dict]:
    """What `linesight predict --json` prints about each file; SystemExit where it does not about every one."""
    command = [binary(), "predict", "--json", "--models", repository, model, *files]
    ran = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    lines = ran.stdout.splitlines()
    # It exits with 1 where a picture could not be judged, and has a line for that one too.
    if ran.returncode not in (0, 1) or len(lines) != len(files):
        raise SystemExit(
            f"{binary().name} predict answered about {len(lines)} of {len(files)} files "
            f"and exited with {ran.returncode}:\n{ran.stderr.strip()}"
        )
    return [json.loads(line) for line in lines]


def scores_of(line: dict) -> tuple[float, ...] | None:
    """In the order of LABELS; None for a picture that the binary does not take."""
    scores = {it["label"]: it["score"] for it in line["items"][0]["scores"]} if "items" in line else {}
    return tuple(scores[label] for label in LABELS) if scores else None


def parsed(line: dict, digest: str) -> Answer:
    if "error" in line:
        return Answer(line["path"], None, "undecided", "request_invalid", line["error"])
    if line["model"]["digest"] != digest:
        raise SystemExit(f"the binary served {line['model']['digest']}, not {digest}, which is staged")
    item = line["items"][0]
    verdict = item["verdict"]
    scores = scores_of(line)
    error = None if scores else verdict.get("detail") or verdict["reason"]
    return Answer(line["path"], scores, verdict["decision"], verdict["reason"], error)
