import json
import tomllib
import unittest

import numpy as np
import onnxruntime
from PIL import Image

from training.decision import SCORE_TOLERANCE, Policy
from training.export import normalised
from training.golden import MARGIN
from training.package import FOLDER, SAMPLES, entry, sealed_files
from training.vial import LABELS
from training.vial.dataset import input_array


class Package(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.card = json.loads((FOLDER / "card.json").read_text())
        cls.settings = tomllib.loads((FOLDER / "package.toml").read_text())
        cls.golden = json.loads((FOLDER / "golden" / "golden.json").read_text())
        cls.runtime = onnxruntime.InferenceSession(FOLDER / "model.onnx", providers=["CPUExecutionProvider"])
        decision = cls.settings["decision"]
        temperature = cls.settings["calibration"]["temperature"]
        cls.policy = Policy(temperature, decision["approve_at"], decision["reject_at"])

    def scores(self, image_bytes: bytes) -> np.ndarray:
        tensor = normalised(input_array(image_bytes)[None])
        return self.policy.scores(self.runtime.run(["logits"], {"image": tensor})[0][0])

    def test_the_card_names_the_digest_of_every_file(self):
        self.assertEqual(self.card["files"], {name: entry(path) for name, path in sealed_files()})

    def test_the_card_says_that_all_is_synthetic(self):
        self.assertIs(self.card["synthetic"], True)
        self.assertEqual(self.card["provenance"]["data"]["kind"], "synthetic")
        self.assertIn("synthetic", self.card["summary"])

    def test_settings_match_the_labels_and_leave_room_between_thresholds(self):
        self.assertEqual(tuple(self.settings["labels"]), LABELS)
        self.assertEqual(self.settings["tolerance"]["scores"], SCORE_TOLERANCE)
        self.assertGreater(self.policy.approve_at, 1 - self.policy.reject_at)

    def test_golden_samples_give_their_tensors_scores_and_verdicts(self):
        for sample in self.golden["samples"]:
            with self.subTest(sample["image"]):
                image_bytes = (FOLDER / "golden" / sample["image"]).read_bytes()
                tensor = np.asarray(Image.open(FOLDER / "golden" / sample["tensor"]))
                np.testing.assert_array_equal(input_array(image_bytes), tensor)
                scores = self.scores(image_bytes)
                np.testing.assert_allclose(scores, sample["scores"], atol=SCORE_TOLERANCE)
                self.assertEqual(self.policy.verdict(scores), sample["verdict"])
                self.assertGreaterEqual(self.policy.margin(np.array(sample["scores"])), MARGIN - 1e-6)

    def test_golden_samples_cover_every_label_and_decision(self):
        samples = self.golden["samples"]
        self.assertGreaterEqual(len(samples), 12)
        self.assertEqual({sample["truth"] for sample in samples}, set(LABELS))
        decisions = {sample["verdict"]["decision"] for sample in samples}
        self.assertEqual(decisions, {"approve", "reject", "undecided"})

    def test_sample_pictures_are_judged_by_their_names(self):
        for label in LABELS:
            verdict = self.policy.verdict(self.scores((SAMPLES / f"{label}.jpg").read_bytes()))
            expected = ("approve", None) if label == "good" else ("reject", label)
            self.assertEqual((verdict["decision"], verdict["class"]), expected)


if __name__ == "__main__":
    unittest.main()
