import io
import json
import tempfile
import unittest
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
from PIL import Image

from training import rows
from training.data import audit, check
from training.data.generate import summary
from training.data.near import near_pairs
from training.data.variants import changed, write_robustness
from training.preprocess import INPUT_HEIGHT, INPUT_WIDTH, input_array
from training.rows import CACHED, Defect, Row

KINDS = {"particle": "speck", "chips_cracks": "crack"}
LABELS_OF = {
    "train": ["good", "particle", "chips_cracks"] * 3,
    "validation": ["good", "particle", "chips_cracks"],
    "calibration": ["good", "particle", "chips_cracks"],
    "test": ["good", "particle", "chips_cracks"],
    "sizes": ["particle", "chips_cracks"],
    "hidden": ["chips_cracks", "chips_cracks"],
}
EXTENT_PX = 32.0


def picture(seed: int) -> bytes:
    """Coarse blocks: a thumbnail of fine noise would be plain grey."""
    blocks = np.random.default_rng(seed).integers(40, 200, (16, 8, 3), np.uint8)
    return changed(cv2.resize(blocks, (INPUT_WIDTH, INPUT_HEIGHT), interpolation=cv2.INTER_NEAREST), "jpeg", 90)


def saved_anew(content: bytes) -> bytes:
    return changed(np.asarray(Image.open(io.BytesIO(content))), "jpeg", 60)


class Set(unittest.TestCase):
    """Every test starts with a small sound set and plants one fault."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.data = Path(folder.name) / "data"
        self.kind = "synthetic"
        self.rows: dict[str, list[Row]] = {}
        self.pictures: dict[tuple[str, int], bytes] = {}
        self.masks: dict[str, np.ndarray] = {}
        for number, (split, labels) in enumerate(LABELS_OF.items()):
            self.masks[split] = np.zeros((len(labels), INPUT_HEIGHT, INPUT_WIDTH), bool)
            self.rows[split] = []
            for index, label in enumerate(labels):
                self.pictures[split, index] = picture(100 * number + index)
                flawed = label in KINDS
                if flawed:
                    self.masks[split][index, 200, 50:60] = True
                defects = [Defect(KINDS[label], EXTENT_PX, 60.0, (176.0, 640.0))] if flawed else []
                path = None if split in CACHED else f"{split}/{index:06d}.jpg"
                lot = f"L{number}00{index % 2}"
                self.rows[split].append(Row(split, index, label, "", path, lot, 0.5, "A", "2R", ["dust"], defects))

    def change(self, split: str, index: int, **values: object) -> None:
        self.rows[split][index] = replace(self.rows[split][index], **values)

    def write(self) -> None:
        """Puts the set on the disk, as the rows, pictures and masks now are."""
        for split, of in self.rows.items():
            (self.data / split).mkdir(parents=True, exist_ok=True)
            contents = [self.pictures[split, row.index] for row in of]
            for row, content in zip(of, contents, strict=True):
                if row.path:
                    (self.data / row.path).write_bytes(content)
            of = [replace(row, sha256=sha256(it).hexdigest()) for row, it in zip(of, contents, strict=True)]
            rows.write(split, of, self.data)
            if split in CACHED:
                np.save(self.data / f"{split}.images.npy", np.stack([input_array(it) for it in contents]))
            if self.kind == "synthetic":
                np.save(self.data / f"{split}.masks.npy", np.packbits(self.masks[split], axis=2))
        write_robustness(rows.read("test", self.data), self.data, 1)
        stated = {**summary(self.data), "kind": self.kind}
        (self.data / "summary.json").write_text(json.dumps(stated))

    def checked(self) -> dict:
        self.write()
        return check.checked(self.data)

    def assert_found(self, *expected: str):
        findings = self.checked()["findings"]
        for text in expected:
            self.assertTrue(any(text in finding for finding in findings), f"{text!r} is not in {findings}")
        self.assertEqual(len(findings), len(expected), findings)


class Sound(Set):
    def test_a_sound_set_passes(self):
        report = self.checked()
        self.assertEqual((report["findings"], report["warnings"]), ([], []))
        self.assertEqual(report["n"]["train"], {"good": 3, "particle": 3, "chips_cracks": 3})
        self.assertEqual(report["lots"]["train"], 2)
        self.assertEqual(report["shares"]["confuser dust"]["share"]["good"], 1.0)
        self.assertRegex(report["closest"], r"thumbnails differ by [\d.]+ levels")

    def test_no_picture_is_read_twice(self):
        self.checked()
        with mock.patch("training.data.fingerprint.examine", side_effect=AssertionError("read again")):
            self.assertEqual(check.checked(self.data)["findings"], [])

    def test_a_torn_record_is_made_anew(self):
        self.checked()
        kept = self.data.parent / "fingerprints.bin"
        whole = kept.read_bytes()
        kept.write_bytes(whole[:-100])
        self.assertEqual(check.checked(self.data)["findings"], [])
        self.assertEqual(len(kept.read_bytes()), len(whole))

    def test_the_program_writes_its_report_and_refuses(self):
        self.change("train", 0, lot="L3000")
        self.write()
        report = self.data.parent / "check.json"
        here = mock.patch.multiple(check, DATA=self.data, REPORT=report)
        with here, mock.patch("sys.stderr"), self.assertRaises(SystemExit) as end:
            check.main()
        self.assertEqual(end.exception.code, 1)
        self.assertEqual(json.loads(report.read_text())["findings"], ["lot L3000: it is in train and test"])


class Wholeness(Set):
    def test_no_set(self):
        self.assertIn("there is no whole set here", check.checked(self.data)["findings"][0])

    def test_a_missing_split(self):
        self.write()
        (self.data / "calibration.jsonl").unlink()
        findings = check.checked(self.data)["findings"]
        self.assertEqual(findings, ["calibration: the split is missing; run python -m training.data.generate"])

    def test_counts_and_digests_other_than_the_summary_tells(self):
        self.write()
        rows.write("sizes", rows.read("sizes", self.data)[:1], self.data)
        test = rows.read("test", self.data)
        rows.write("test", [test[1], test[0], test[2]], self.data)
        findings = check.checked(self.data)["findings"]
        self.assertIn("sizes: the summary says {'particle': 1, 'chips_cracks': 1}, but there are", findings[0])
        self.assertEqual(findings[1], "test: the digest of its rows is not that of the summary")

    def test_files_that_are_gone_or_changed(self):
        self.write()
        (self.data / "test/000001.jpg").unlink()
        (self.data / "test/000002.jpg").write_bytes(picture(999))
        np.save(self.data / "train.images.npy", np.zeros((2, INPUT_HEIGHT, INPUT_WIDTH, 3), np.uint8))
        findings = check.checked(self.data)["findings"]
        self.assertIn(f"train.images.npy: its shape is (2, {INPUT_HEIGHT}, {INPUT_WIDTH}, 3)", findings[0])
        self.assertEqual(findings[1], "test/1: there is no file test/000001.jpg")
        self.assertIn("test/2: test/000002.jpg has changed", findings[2])


class Leaks(Set):
    def test_the_same_file_in_two_splits(self):
        self.pictures["test", 2] = self.pictures["train", 4]
        self.assert_found("test/2: it is the same file as train/4")

    def test_the_same_file_twice_in_a_split(self):
        self.pictures["sizes", 1] = self.pictures["sizes", 0]
        self.assert_found("sizes/1: it is the same file as sizes/0")

    def test_the_same_variant_twice(self):
        self.pictures["test", 1] = self.pictures["test", 0]
        variants = [f"robustness/{8 + number}: it is the same file as robustness/{number}" for number in range(8)]
        self.assert_found("test/1: it is the same file as test/0", *variants)

    def test_a_lot_in_two_splits(self):
        self.change("validation", 0, lot="L2001")
        self.assert_found("lot L2001: it is in validation and calibration")

    def test_a_picture_saved_anew_in_another_split(self):
        self.pictures["calibration", 1] = saved_anew(self.pictures["train", 4])
        self.assert_found("nearly the same in two splits: train/4 (particle) and calibration/1 (particle)")

    def test_near_pairs_are_those_of_a_plain_search(self):
        self.write()
        records, _ = check.fingerprints_of(check.load(self.data)[0])
        groups = np.arange(len(records)) % 3
        thumbnails = records["thumbnail"].astype(int)
        distances = {
            (i, j): np.abs(thumbnails[i] - thumbnails[j]).mean()
            for i in range(len(records))
            for j in range(len(records))
            if groups[i] < groups[j]
        }
        with mock.patch.multiple("training.data.near", BLOCK=4, MOST_RMS=1e9, MOST_BITS=64, MOST_LEVELS=40.0):
            pairs, closest = near_pairs(records, groups)
        expected = {pair for pair, levels in distances.items() if levels <= 40}
        self.assertGreater(len(expected), 3)
        self.assertEqual({(pair.first, pair.second) for pair in pairs}, expected)
        self.assertEqual((closest.first, closest.second), min(distances, key=distances.get))


class Labels(Set):
    def test_a_good_vial_with_a_defect(self):
        self.change("calibration", 0, defects=[Defect("speck", EXTENT_PX, 60.0, (1.0, 2.0))])
        self.assert_found("calibration/0: labelled good, but it has 1 defects")

    def test_a_flawed_vial_without(self):
        self.change("train", 1, defects=[])
        self.assert_found("train/1: labelled particle, but it has no defect")

    def test_a_defect_of_another_label_or_of_none(self):
        self.change("train", 1, label="chips_cracks")
        self.change("train", 2, defects=[Defect("stain", EXTENT_PX, 60.0, (1.0, 2.0))])
        self.assert_found(
            "train/1: labelled chips_cracks, but it has a speck, which is of particle",
            "train/2: labelled chips_cracks, but it has a defect of the unknown kind 'stain'",
        )

    def test_a_defect_smaller_than_is_drawn(self):
        small = Defect("speck", 7.5, 60.0, (1.0, 2.0))
        self.change("sizes", 0, defects=[small])
        self.masks["sizes"][0, 200, 52:60] = False
        self.assert_found("sizes/0: labelled particle, but its speck has 7.5 px, less than the smallest, 8")

    def test_masks_that_disagree(self):
        self.masks["train"][0, 5, 5] = True
        self.masks["train"][1] = False
        # 48 px of the input are 128 of the picture.
        self.masks["train"][2, 200, 50:98] = True
        self.assert_found(
            "train/0: labelled good, but its mask has 1 pixels",
            "train/1: labelled particle, but its mask is empty",
            "train/2: labelled chips_cracks, but its mask has an extent of 128 px and its crack one of 32 px",
        )

    def test_a_variant_under_another_label(self):
        self.write()
        made = rows.read("robustness", self.data)
        made[0] = replace(made[0], label="particle", defects=made[8].defects)
        rows.write("robustness", made, self.data)
        (self.data / "summary.json").write_text(json.dumps(summary(self.data)))
        findings = check.checked(self.data)["findings"]
        self.assertEqual(findings, ["robustness/0: labelled particle, but 0 of test is good"])


class Confusers(Set):
    def test_one_that_tells_the_label_is_a_warning(self):
        vials = [row for row in self.rows["train"] for _ in range(40)]
        vials = [replace(row, confusers=["dust", "print"] if row.flawed else ["dust"]) for row in vials]
        report, warnings = audit.shares({"train": vials})
        self.assertEqual(report["confuser print"]["share"], {"good": 0.0, "particle": 1.0, "chips_cracks": 1.0})
        self.assertEqual(report["confuser dust"]["p"], 1.0)
        self.assertEqual(len(warnings), 1)
        self.assertIn("confuser print: its share differs between labels", warnings[0])

    def test_splits_of_other_mixes_are_no_warning(self):
        few, many = (self.rows["train"] for _ in range(2))
        # More print, and more flawed, in one split than in the other; within each they are independent.
        plain = [replace(row, split="test", confusers=[]) for row in few if not row.flawed for _ in range(40)]
        printed = [replace(row, confusers=["print"]) for row in many for _ in range(40)]
        _, warnings = audit.shares({"train": printed, "test": plain})
        self.assertEqual(warnings, [])


class Photographs(Set):
    def setUp(self):
        super().setUp()
        self.kind = "photographs"
        del self.rows["sizes"]
        for split, of in self.rows.items():
            self.rows[split] = [replace(row, defects=[], confusers=[]) for row in of]

    def test_they_need_no_masks_nor_sizes(self):
        self.assert_found()

    def test_the_same_vial_under_two_labels_is_to_be_looked_at(self):
        self.pictures["train", 1] = saved_anew(self.pictures["train", 0])
        report = self.checked()
        self.assertEqual(report["findings"], [])
        self.assertIn("train/0 (good) and train/1 (particle)", report["warnings"][0])


if __name__ == "__main__":
    unittest.main()
