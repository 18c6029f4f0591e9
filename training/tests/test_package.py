"""The sealed versions in models/, and how a version comes to be there."""

import hashlib
import io
import json
import os
import shutil
import tempfile
import tomllib
import unittest
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

from training import APPROVE, LABELS, REPOSITORY, TRAINING
from training.judge.decision import SCORE_TOLERANCE, Policy
from training.package.agreement import agreeing
from training.package.assemble import LEAST_GOLDEN, Refused, package, write_samples
from training.package.card import sealed_files
from training.package.golden import MARGIN, Judge, clearance, sources
from training.package.stage import set_thresholds, stage
from training.package.origin import origin
from training.params import params
from training.preprocess import input_array
from training.rows import read, write
from training.tests.tiny import CANDIDATE, Pipeline, grey

MODELS = REPOSITORY / "models" / params()["package"]["name"]
BUILT = (REPOSITORY / "target" / "release" / "linesight").is_file() or "LINESIGHT" in os.environ


def temporary_folder(test: unittest.TestCase) -> Path:
    temporary = tempfile.TemporaryDirectory()
    test.addCleanup(temporary.cleanup)
    return Path(temporary.name)


class Version:
    """A sealed version, asked by Pillow and ONNX Runtime as its own package.toml says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.card = json.loads((folder / "card.json").read_text())
        self.settings = tomllib.loads((folder / "package.toml").read_text())
        self.golden = json.loads((folder / "golden" / "golden.json").read_text())
        self.runtime = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
        decision = self.settings["decision"]
        temperature = self.settings["calibration"]["temperature"]
        self.policy = Policy(temperature, decision["approve_at"], decision["reject_at"])

    def pixels(self, image_bytes: bytes) -> np.ndarray:
        height, width = self.settings["preprocess"]["resize"]["size"]
        stored = Image.open(io.BytesIO(image_bytes))
        if self.settings["preprocess"]["decode"] == "scaled":
            sideways = stored.getexif().get(0x0112) in (5, 6, 7, 8)
            stored.draft(None, (height, width) if sideways else (width, height))
        picture = ImageOps.exif_transpose(stored).convert("RGB")
        return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))

    def scores(self, image_bytes: bytes) -> np.ndarray:
        preprocess = self.settings["preprocess"]
        mean, std = (np.array(preprocess[it], np.float32) for it in ("mean", "std"))
        scaled = self.pixels(image_bytes).astype(np.float32) * np.float32(preprocess["scale"])
        tensor = ((scaled - mean) / std).transpose(2, 0, 1)[None]
        return self.policy.scores(self.runtime.run(["logits"], {"image": np.ascontiguousarray(tensor)})[0][0])


class SealedVersions(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.versions = [Version(path.parent) for path in sorted(MODELS.glob("[1-9]*/card.json"))]

    def each(self):
        for version in self.versions:
            with self.subTest(version.folder.name):
                yield version

    def test_there_is_one(self):
        self.assertTrue(self.versions)

    def test_the_card_names_the_digest_of_every_file(self):
        for version in self.each():
            self.assertEqual(version.card["files"], sealed_files(version.folder))

    def test_the_card_says_what_is_synthetic(self):
        for version in self.each():
            synthetic = version.card["provenance"]["data"]["kind"] == "synthetic"
            self.assertIs(version.card["synthetic"], synthetic)
            self.assertEqual("synthetic" in version.card["summary"], synthetic)
            self.assertEqual("is synthetic" in (version.folder / "MODEL_CARD.md").read_text(), synthetic)

    def test_settings_match_the_labels_and_leave_room_between_thresholds(self):
        for version in self.each():
            self.assertEqual(tuple(version.settings["labels"]), LABELS)
            self.assertEqual(version.settings["tolerance"]["scores"], SCORE_TOLERANCE)
            self.assertGreater(version.policy.approve_at, 1 - version.policy.reject_at)

    def test_golden_samples_give_their_tensors_scores_and_verdicts(self):
        for version in self.each():
            for sample in version.golden["samples"]:
                with self.subTest(sample["image"]):
                    content = (version.folder / "golden" / sample["image"]).read_bytes()
                    tensor = np.asarray(Image.open(version.folder / "golden" / sample["tensor"]))
                    np.testing.assert_array_equal(version.pixels(content), tensor)
                    scores = version.scores(content)
                    np.testing.assert_allclose(scores, sample["scores"], atol=SCORE_TOLERANCE)
                    self.assertEqual(version.policy.verdict(scores), sample["verdict"])
                    self.assertFalse(sample["truth"] != APPROVE and sample["verdict"]["decision"] == "approve")

    def test_golden_samples_cover_every_label_and_decision(self):
        for version in self.each():
            samples = version.golden["samples"]
            self.assertEqual({sample["truth"] for sample in samples}, set(LABELS))
            decisions = {sample["verdict"]["decision"] for sample in samples}
            self.assertEqual(decisions, {"approve", "reject", "undecided"})
            # Version 1 is older than this pipeline.
            self.assertGreaterEqual(len(samples), 12 if version.folder.name == "1" else LEAST_GOLDEN)

    def test_sample_pictures_are_judged_by_their_names(self):
        wanted = MODELS / params()["package"]["version"]
        version = next((it for it in self.versions if it.folder == wanted), self.versions[0])
        for label in LABELS:
            verdict = version.policy.verdict(version.scores((TRAINING / "samples" / f"{label}.jpg").read_bytes()))
            expected = ("approve", None) if label == APPROVE else ("reject", label)
            self.assertEqual((verdict["decision"], verdict["class"]), expected)


@unittest.skipUnless(BUILT, "the binary is not built: run `make build`")
class Golden(unittest.TestCase):
    def setUp(self):
        self.pipeline = Pipeline(temporary_folder(self))
        self.pipeline.write()
        self.places = self.pipeline.places

    def samples(self, folder: Path) -> list[dict]:
        return json.loads((folder / "golden" / "golden.json").read_text())["samples"]

    def test_a_staged_package_is_sealed_with_samples_of_every_label_and_decision(self):
        folder = stage(CANDIDATE, self.places)
        card = json.loads((folder / "card.json").read_text())
        self.assertEqual(card["files"], sealed_files(folder))
        self.assertEqual(card["version"], params()["package"]["version"])
        samples = self.samples(folder)
        self.assertGreaterEqual(len(samples), LEAST_GOLDEN)
        self.assertEqual({it["truth"] for it in samples}, set(LABELS))
        self.assertEqual({it["verdict"]["decision"] for it in samples}, {"approve", "reject", "undecided"})
        self.assertEqual([it.name for it in folder.parent.iterdir() if it.name.startswith(".")], [])

    def test_staging_twice_gives_the_same_bytes(self):
        folder = stage(CANDIDATE, self.places)
        before = (folder / "card.json").read_bytes()
        self.assertEqual((stage(CANDIDATE, self.places) / "card.json").read_bytes(), before)

    def test_new_thresholds_keep_the_pictures_and_record_new_answers(self):
        folder = stage(CANDIDATE, self.places)
        before = {it["image"]: it for it in self.samples(folder)}
        kept = sources(folder / "golden")
        policy = Policy(1.5, 0.95, 0.6)
        folder = set_thresholds(CANDIDATE, policy, self.places)
        after = sources(folder / "golden")
        self.assertEqual(after["good-bubbles"], kept["good-bubbles"])
        settings = tomllib.loads((folder / "package.toml").read_text())
        self.assertEqual((settings["calibration"]["temperature"], settings["decision"]["approve_at"]), (1.5, 0.95))
        for sample in self.samples(folder):
            self.assertGreaterEqual(clearance(policy, np.array(sample["scores"])), MARGIN - 1e-3, sample["image"])
            self.assertNotEqual(sample["scores"], before.get(sample["image"], {}).get("scores"))

    def test_scaled_decoding_is_declared_and_recorded(self):
        candidate = params()["package"]["scaled"]["candidate"]
        shutil.copytree(self.places.candidates / CANDIDATE, self.places.candidates / candidate)
        # Large enough to be decoded at a half.
        rows = read("calibration", self.places.data)
        for row in rows:
            path = self.places.data / row.path
            buffer = io.BytesIO()
            Image.open(path).resize((512, 1024), Image.Resampling.NEAREST).save(buffer, "JPEG", quality=90)
            path.write_bytes(buffer.getvalue())
        folder = stage(candidate, self.places)
        self.assertEqual(folder.name, params()["package"]["scaled"]["version"])
        version = Version(folder)
        self.assertEqual(version.settings["preprocess"]["decode"], "scaled")
        in_full = 0
        for sample in version.golden["samples"]:
            content = (folder / "golden" / sample["image"]).read_bytes()
            tensor = np.asarray(Image.open(folder / "golden" / sample["tensor"]))
            np.testing.assert_array_equal(version.pixels(content), tensor)
            in_full += np.array_equal(input_array(content), tensor)
        # Those stored as PNG.
        self.assertLess(in_full, len(version.golden["samples"]) / 2)

    def test_a_flawed_vial_that_is_approved_is_never_recorded(self):
        rows = read("calibration", self.places.data)
        bright = [row.index for row in rows if row.label == APPROVE][2:30]
        write("calibration", [replace(it, label="particle") if it.index in bright else it for it in rows],
              self.places.data)  # fmt: skip
        folder = stage(CANDIDATE, self.places)
        for sample in self.samples(folder):
            self.assertFalse(sample["truth"] != APPROVE and sample["verdict"]["decision"] == "approve", sample)
        self.assertTrue(set(bright).isdisjoint(sources(folder / "golden").values()))

    def test_photographs_of_which_nothing_is_known_fill_the_slots_by_class(self):
        rows = [replace(it, confusers=[], defects=[]) for it in read("calibration", self.places.data)]
        write("calibration", rows, self.places.data)
        samples = self.samples(stage(CANDIDATE, self.places))
        self.assertGreaterEqual(len(samples), LEAST_GOLDEN)
        easy = next(it for it in samples if it["image"].startswith("good-easy-1"))
        self.assertIn("any of its class", easy["note"])

    def test_no_network_is_a_message(self):
        with self.assertRaisesRegex(SystemExit, "is no candidate of params.yaml"):
            stage("resnet", self.places)
        (self.places.candidates / CANDIDATE / "model.onnx").unlink()
        with self.assertRaisesRegex(SystemExit, "model.onnx is not there"):
            stage(CANDIDATE, self.places)
        self.assertFalse(self.places.provisional.exists())

    def test_clearance_is_infinite_nowhere_and_zero_at_a_threshold(self):
        policy = Policy(1.0, 0.98, 0.5)
        self.assertAlmostEqual(clearance(policy, np.array([0.981, 0.019, 0.0])), 0.0, places=6)
        self.assertAlmostEqual(clearance(policy, np.array([0.2, 0.5, 0.3])), 0.0, places=6)
        self.assertTrue(np.isfinite(clearance(policy, np.array([1.0, 0.0, 0.0]))))

    def test_the_binary_must_agree_with_the_reference(self):
        folder = stage(CANDIDATE, self.places)
        judge = Judge.load(folder, Policy(1.0, 0.98, 0.5))
        scores = judge.judge(grey(60, 0)).scores
        off = scores + np.array([0.0005, 0.0, -0.0005])
        pictures = [grey(60, 0), grey(60, 0), b"no picture"]
        self.assertEqual(agreeing(folder, pictures, [scores, off, scores]), [True, False, False])


@unittest.skipUnless(BUILT, "the binary is not built: run `make build`")
class Packaging(unittest.TestCase):
    """The whole way with a model of a few weights: staged, calibrated, evaluated, packaged."""

    @classmethod
    def setUpClass(cls):
        temporary = tempfile.TemporaryDirectory()
        cls.addClassCleanup(temporary.cleanup)
        cls.evaluated = Path(temporary.name)
        pipeline = Pipeline(cls.evaluated)
        pipeline.write()
        pipeline.run()

    def setUp(self):
        folder = temporary_folder(self)
        shutil.copytree(self.evaluated, folder, dirs_exist_ok=True)
        self.pipeline = Pipeline(folder)
        self.places, self.staged = self.pipeline.places, self.pipeline.staged
        self.target = self.places.models / params()["package"]["name"] / self.staged.version

    def refused(self, message: str) -> None:
        with self.assertRaisesRegex(Refused, message):
            package(CANDIDATE, places=self.places)
        self.assertFalse(self.places.sealing.joinpath(CANDIDATE).exists())

    def reseal(self) -> None:
        """As somebody would who changes a file on purpose."""
        path = self.staged.folder / "card.json"
        card = json.loads(path.read_text())
        path.write_text(json.dumps({**card, "files": sealed_files(self.staged.folder)}))
        evaluation = json.loads((self.places.candidates / CANDIDATE / "evaluation.json").read_text())
        self.pipeline.keep("evaluation.json", {**evaluation, "digest": self.staged.digest})

    def change_golden(self, **verdict: object) -> None:
        path = self.staged.folder / "golden" / "golden.json"
        golden = json.loads(path.read_text())
        sample = next(it for it in golden["samples"] if it["verdict"]["decision"] == "reject")
        sample["verdict"].update(verdict)
        path.write_text(json.dumps(golden))

    def test_a_package_is_complete_and_is_what_was_evaluated(self):
        evaluated = sealed_files(self.staged.folder)
        self.assertEqual(package(CANDIDATE, places=self.places), self.target)
        self.assertEqual(json.loads((self.target / "card.json").read_text())["files"], sealed_files(self.target))
        added = {name for name, entry in sealed_files(self.target).items() if evaluated.get(name) != entry}
        figures = {f"figures/{it.name}" for it in (self.target / "figures").iterdir()}
        self.assertEqual(added, {"MODEL_CARD.md", "reference.json", *figures})
        words = (self.target / "MODEL_CARD.md").read_text()
        self.assertIn("**Everything here is synthetic.**", words)
        self.assertNotIn("$", words)
        for figure in figures:
            self.assertIn(figure, words)
        # Again: the same, and so nothing is written.
        before = (self.target / "card.json").read_bytes()
        package(CANDIDATE, places=self.places)
        self.assertEqual((self.target / "card.json").read_bytes(), before)
        write_samples(self.target, self.places)
        golden = {hashlib.sha256(it.read_bytes()).digest() for it in (self.target / "golden").iterdir()}
        for label in LABELS:
            content = (self.places.samples / f"{label}.jpg").read_bytes()
            self.assertNotIn(hashlib.sha256(content).digest(), golden)

    def test_a_package_that_fails_its_golden_samples_is_not_written(self):
        self.change_golden(decision="undecided", reason="low_confidence", **{"class": None})
        self.reseal()
        self.refused("golden samples failed")
        self.assertFalse(self.target.exists())

    def test_a_staged_file_that_was_changed_is_refused(self):
        self.change_golden(decision="undecided")
        self.refused("not as it was sealed: golden/golden.json")

    def test_another_package_than_was_evaluated_is_refused(self):
        set_thresholds(CANDIDATE, Policy(1.3, 0.96, 0.55), self.places)
        self.refused("run `python -m training.judge.evaluate efficientnet_b0` again")
        self.assertFalse(self.target.exists())

    def test_another_version_of_that_number_stays_unless_it_may_be_replaced(self):
        self.target.mkdir(parents=True)
        (self.target / "card.json").write_text("released")
        with mock.patch("builtins.print") as said:
            finished = package(CANDIDATE, places=self.places)
        self.assertIn("raise package.version in training/params.yaml", said.call_args_list[0].args[0])
        self.assertEqual((self.target / "card.json").read_text(), "released")
        self.assertTrue(finished.is_relative_to(self.places.finished))
        self.assertTrue((finished / "model.onnx").is_file())
        package(CANDIDATE, may_replace=True, places=self.places)
        self.assertTrue((self.target / "model.onnx").is_file())

    def test_a_version_with_the_network_of_another_names_it(self):
        candidate = params()["package"]["scaled"]["candidate"]
        released = self.target.parent
        with self.assertRaisesRegex(SystemExit, "has to be packaged first"):
            origin(candidate, self.staged.folder, released)
        package(CANDIDATE, places=self.places)
        found = origin(candidate, self.staged.folder, released)
        card = hashlib.sha256((self.target / "card.json").read_bytes()).hexdigest()
        self.assertEqual((found["version"], found["digest"]), (self.target.name, f"sha256:{card}"))
        (self.staged.folder / "model.onnx").write_bytes(b"other weights")
        with self.assertRaisesRegex(SystemExit, "another network"):
            origin(candidate, self.staged.folder, released)

    def test_the_network_to_beat_is_never_packaged(self):
        with self.assertRaisesRegex(Refused, "never packaged"):
            package(params()["package"]["incumbent"], places=self.places)


if __name__ == "__main__":
    unittest.main()
