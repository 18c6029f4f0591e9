import hashlib
import os
import stat
import tempfile
import tomllib
import unittest
from pathlib import Path
from unittest import mock

import numpy as np

from training import REPOSITORY, TRAINING
from training.judge import served
from training.judge.served import Staged, ask, binary
from training.params import params
from training.rows import Row

BUILT = (REPOSITORY / "target" / "release" / "linesight").is_file() or "LINESIGHT" in os.environ
PICTURES = sorted((TRAINING / "samples").glob("*.jpg"))


def served_version() -> Staged:
    models, name = REPOSITORY / "models", params()["package"]["name"]
    return Staged(models, name, tomllib.loads((models / name / "model.toml").read_text())["serve"])


class Temporary(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)

    def row(self, index: int, path: Path) -> Row:
        content = path.read_bytes() if path.exists() else b""
        return Row("test", index, "good", hashlib.sha256(content).hexdigest(), str(path))


@unittest.skipUnless(BUILT, "the binary is not built: run `make build`")
class Binary(Temporary):
    def setUp(self):
        super().setUp()
        self.version = served_version()
        (self.folder / "text.jpg").write_text("not a picture")
        paths = [*PICTURES, self.folder / "text.jpg", self.folder / "missing.jpg"]
        self.rows = [self.row(index, path) for index, path in enumerate(paths)]

    def test_a_row_an_answer_in_order_with_the_verdict_of_our_own_rule(self):
        answers = ask(self.version, self.rows, self.folder, "test")
        self.assertEqual([it.path for it in answers], [row.path for row in self.rows])
        for answer in answers[: len(PICTURES)]:
            self.assertAlmostEqual(sum(answer.label_scores), 1.0, places=5)
            verdict = self.version.policy.verdict(np.array(answer.label_scores))
            self.assertEqual((answer.decision, answer.reason), (verdict["decision"], verdict["reason"]))
            self.assertIsNone(answer.error)
        text, missing = answers[len(PICTURES) :]
        self.assertEqual((text.decision, text.reason, text.label_scores), ("undecided", "image_unreadable", None))
        self.assertIn("neither JPEG nor PNG", text.error)
        self.assertEqual((missing.decision, missing.label_scores), ("undecided", None))
        self.assertIn("No such file", missing.error)

    def test_what_was_answered_is_not_asked_again_and_what_went_wrong_is(self):
        with mock.patch.object(served, "ask_files", wraps=served.ask_files) as asked:
            first = ask(self.version, self.rows, self.folder, "test")
            [kept] = self.folder.glob("test-*.jsonl")
            # As if the process had been killed in the middle of a line.
            kept.write_bytes(kept.read_bytes() + b'{"sha256": "12')
            second = ask(self.version, self.rows, self.folder, "test")
        self.assertEqual(second[: len(PICTURES)], first[: len(PICTURES)])
        self.assertEqual([len(call.args[1]) for call in asked.call_args_list], [len(self.rows), 2])
        self.assertTrue(kept.read_text().endswith("}\n"))

    def test_a_model_that_is_not_there_shows_what_the_binary_says(self):
        nowhere = mock.Mock(repository=REPOSITORY / "models", version="1", digest="sha256:0")
        nowhere.name = "no-such-model"
        with self.assertRaisesRegex(SystemExit, "no model named no-such-model"):
            ask(nowhere, self.rows, self.folder, "test")


class Script(Temporary):
    """A stand-in for the binary."""

    def stand_in(self, text: str) -> None:
        path = self.folder / "linesight"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(path.stat().st_mode | stat.S_IEXEC)
        patched = mock.patch.dict(os.environ, {"LINESIGHT": str(path)})
        patched.start()
        self.addCleanup(patched.stop)

    def test_a_binary_that_is_not_built_says_how_to_build_it(self):
        nowhere = {"LINESIGHT": str(self.folder / "nothing")}
        with mock.patch.dict(os.environ, nowhere), self.assertRaisesRegex(SystemExit, "make build"):
            binary()

    def test_a_crash_in_the_second_chunk_keeps_the_first(self):
        digest = served_version().digest
        item = '{"scores":[],"verdict":{"decision":"undecided","reason":"x","detail":"d"}}'
        line = f'{{"path":"p","model":{{"digest":"{digest}"}},"items":[{item}],"timing":{{"total_ms":1}}}}'
        self.stand_in(f"case \"$*\" in *good*) echo '{line}';; *) echo broken >&2; exit 101;; esac")
        rows = [self.row(0, TRAINING / "samples" / "good.jpg"), self.row(1, TRAINING / "samples" / "particle.jpg")]
        with mock.patch.object(served, "CHUNK", 1), self.assertRaisesRegex(SystemExit, r"0 of 1 .*101:\nbroken"):
            ask(served_version(), rows, self.folder, "test")
        [kept] = self.folder.glob("test-*.jsonl")
        self.assertEqual(len(kept.read_text().splitlines()), 1)

    def test_an_answer_by_another_version_is_refused(self):
        self.stand_in("""echo '{"path":"p","model":{"digest":"sha256:other"},"items":[]}'""")
        with self.assertRaisesRegex(SystemExit, "served sha256:other"):
            ask(served_version(), [self.row(0, PICTURES[0])], self.folder, "test")


if __name__ == "__main__":
    unittest.main()
