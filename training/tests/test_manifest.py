import unittest
from unittest import mock

from training.data import intake
from training.tests.test_intake import EACH, Source


class BadManifests(Source):
    def test_each_bad_line_is_named(self):
        cases = [
            ({"path": "good/none.jpg"}, "good/none.jpg: there is no such file"),
            ({"path": "../source/good/01.jpg"}, "../source/good/01.jpg: the path leads out of the manifest's folder"),
            ({"path": f"{self.source}/good/02.jpg"}, f"{self.source}/good/02.jpg: the path leads out"),
            ({"path": ""}, "manifest.csv:13: no path: the path is missing"),
            ({"label": "chip"}, "unknown label 'chip'; the labels are good, particle, chips_cracks"),
            ({"split": "sizes"}, "unknown split 'sizes'"),
            ({"path": "good/07.jpg"}, "manifest.csv:16: good/07.jpg: it is in line 9 already"),
        ]
        for number, (values, _) in enumerate(cases):
            self.lines[number + 8] |= values
        self.lines = [line | {"fill_level": "70 %" if not index else ""} for index, line in enumerate(self.lines)]
        with mock.patch.object(intake, "too_few", return_value=[]):
            self.assert_refused(self.by_manifest(), *(text for _, text in cases), "fill_level is '70 %'")

    def test_a_lot_in_two_splits(self):
        self.lines[0]["lot"] = "test-1"
        self.assert_refused(self.by_manifest(), "lot test-1: it is in test and train; a lot belongs to one split")

    def test_a_split_for_some_only(self):
        self.lines[3]["split"] = ""
        self.lines[3]["lot"] = ""
        expected = "good/03.jpg: no split; name the split of every picture, or of none"
        with mock.patch.object(intake, "too_few", return_value=[]):
            self.assert_refused(self.by_manifest(), expected)

    def test_a_split_that_gets_none(self):
        for line in self.lines[:EACH]:
            line |= {"split": "train", "lot": ""}
        problems = [f"good: none of its 12 pictures is in {it}" for it in ("validation", "calibration", "test")]
        self.assert_refused(self.by_manifest(), *problems)

    def test_columns(self):
        self.manifest.write_text("path,labels\ngood/00.jpg,good\n")
        self.assert_refused(self.manifest, "no column label; required are path, label", "unknown column 'labels'")
        self.manifest.write_text("path,label,label\n")
        self.assert_refused(self.manifest, "two columns 'label'")
        self.manifest.write_text("path,label\n")
        self.assert_refused(self.manifest, "it names no picture")
        self.manifest.write_text("path,label\ngood/00.jpg\n")
        self.assert_refused(self.manifest, "manifest.csv:2: it has not 2 fields")
        self.manifest.write_bytes("path,label\nméh.jpg,good\n".encode("latin-1"))
        self.assert_refused(self.manifest, "it cannot be read")


if __name__ == "__main__":
    unittest.main()
