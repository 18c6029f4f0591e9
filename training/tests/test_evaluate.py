import tempfile
import unittest
from dataclasses import replace
from pathlib import Path
from unittest import mock

from training.judge import evaluate
from training.judge.bar import bar, worst_share
from training.judge.compare import against
from training.judge.decision import Policy
from training.judge.measure import measure_robustness, measure_sizes, measure_test, tally, unanswered
from training.judge.plots import draw
from training.judge.served import Answer
from training.report import read_json, write_json
from training.rows import Defect, Row

SCORES = {
    "approve": (0.99, 0.005, 0.005),
    "particle": (0.001, 0.998, 0.001),
    "chips_cracks": (0.001, 0.001, 0.998),
    "undecided": (0.6, 0.3, 0.1),
}


def row(index: int, label: str, extent: float = 0.0, **other: object) -> Row:
    kind = {"good": None, "particle": "speck", "chips_cracks": "crack"}[label]
    defects = [Defect(kind, extent, 20.0, (1.0, 2.0))] if kind else []
    return Row("test", index, label, f"{index:064}", f"test/{index}.jpg", defects=defects, **other)


def answer(said: str | None) -> Answer:
    if said is None:
        return Answer("a.jpg", None, "undecided", "image_unreadable", "it is a text")
    decision = said if said in ("approve", "undecided") else "reject"
    return Answer("a.jpg", SCORES[said], decision, "ok", None)


JUDGED = [
    (row(0, "good", lamp="A", lot="L1", fill_level=0.1), answer("approve")),
    (row(1, "good", lamp="A", lot="L1", fill_level=0.2), answer("particle")),
    (row(2, "good", lamp="B", lot="L2", fill_level=0.5), answer("undecided")),
    (row(3, "good", lamp="B", lot="L2", fill_level=0.6), answer(None)),
    (row(4, "particle", 20, lamp="A", lot="L3", fill_level=0.8), answer("particle")),
    (row(5, "particle", 9, lamp="B", lot="L3", fill_level=0.9), answer("approve")),
    (row(6, "chips_cracks", 30), answer("chips_cracks")),
    (row(7, "chips_cracks", 14), answer("undecided")),
]


class TestSplit(unittest.TestCase):
    def setUp(self):
        self.figures = measure_test(JUDGED)

    def test_decisions_by_truth(self):
        figures = self.figures
        self.assertEqual(figures["decisions"]["good"], {"approve": 1, "reject": 1, "undecided": 2})
        self.assertEqual(figures["decisions"]["particle"], {"approve": 1, "reject": 1, "undecided": 0})
        counts = [figures[it]["count"] for it in ("false_approvals", "false_rejections", "undecided_good")]
        self.assertEqual(counts, [1, 1, 2])
        self.assertEqual((figures["undecided_flawed"]["count"], figures["good_not_approved"]["count"]), (1, 3))
        self.assertEqual((figures["false_approvals"]["n"], figures["false_rejections"]["n"]), (4, 4))

    def test_a_picture_without_an_answer_is_undecided_and_named_and_in_no_column(self):
        self.assertEqual(self.figures["confusion_matrix"]["counts"], [[2, 1, 0], [1, 1, 0], [1, 0, 1]])
        self.assertEqual(unanswered(JUDGED), ["test/3.jpg: it is a text"])
        self.assertEqual(self.figures["accuracy"]["count"], 4)

    def test_recall_is_of_the_likeliest_label_and_detection_of_the_decision(self):
        self.assertEqual({it: self.figures["recall"][it]["count"] for it in self.figures["recall"]},
                         {"good": 2, "particle": 1, "chips_cracks": 1})  # fmt: skip
        self.assertEqual({it: self.figures["detection"][it]["count"] for it in self.figures["detection"]},
                         {"particle": 1, "chips_cracks": 2})  # fmt: skip

    def test_wrong_answers_are_listed_with_their_defects(self):
        [approved] = self.figures["false_approvals_listed"]
        self.assertEqual((approved["index"], approved["defects"][0]["extent_px"]), (5, 9))
        self.assertEqual([it["index"] for it in self.figures["false_rejections_listed"]], [1])

    def test_slices_leave_out_what_is_not_known(self):
        slices = self.figures["slices"]
        self.assertEqual([(it["slice"], it["good"], it["flawed"]) for it in slices["lamp"]], [("A", 2, 1), ("B", 2, 1)])
        self.assertEqual([it["good"] + it["flawed"] for it in slices["fill_level"]], [2, 2, 2])
        self.assertEqual(slices["vial_size"], [])
        self.assertEqual(slices["lot"]["lots"], 3)
        # An approved flaw is worse than any number of good vials kept back.
        self.assertEqual([it["slice"] for it in slices["lot"]["worst"]], ["L3", "L2", "L1"])

    def test_log_odds_are_counted_once_each(self):
        histogram = self.figures["log_odds"]
        self.assertEqual((sum(histogram["good"]), sum(histogram["flawed"])), (3, 4))


class Sizes(unittest.TestCase):
    def test_bins_hold_their_lower_end_and_the_last_one_both(self):
        bins = measure_sizes([it for it in JUDGED if it[0].flawed], [8, 14, 20, 30])
        self.assertEqual([(it["n"], it["count"]) for it in bins], [(1, 0), (1, 1), (2, 2)])
        self.assertEqual({kind: it["count"] for kind, it in bins[2]["by_kind"].items()}, {"crack": 1, "speck": 1})

    def test_a_bin_without_a_vial_is_not_passed(self):
        bins = measure_sizes([it for it in JUDGED if it[0].flawed], [14, 15, 20, 30])
        self.assertEqual([it["share"] for it in bins], [1.0, None, 1.0])
        self.assertEqual(worst_share(bins), 0.0)


class Bar(unittest.TestCase):
    def test_it_names_what_is_not_reached(self):
        lines = bar(measure_test(JUDGED), [{"from": 8, "share": 0.2, "n": 600}, {"from": 14, "share": 0.995, "n": 600}])
        self.assertEqual([it["passed"] for it in lines], [False, False, False, True, True])
        self.assertEqual(lines[0]["value"], 1)

    def test_it_passes_what_is_reached(self):
        good = [(row(index, "good"), answer("approve")) for index in range(300)]
        flawed = [(row(300 + index, "particle", 20), answer("particle")) for index in range(30)]
        self.assertTrue(all(it["passed"] for it in bar(tally(good + flawed), [{"from": 14, "share": 1.0, "n": 500}])))

    def test_without_sizes_detection_is_not_measured(self):
        self.assertEqual([it["passed"] for it in bar(tally(JUDGED), [])][3:], [None, None])

    def test_a_candidate_must_do_better_than_the_incumbent_and_not_as_well(self):
        same = tally(JUDGED)
        self.assertEqual([it["passed"] for it in against(same, same)], [True, False])
        self.assertEqual([it["passed"] for it in against(tally(JUDGED[:1] + JUDGED[4:]), same)], [True, True])


class Robustness(unittest.TestCase):
    def test_variants_stand_beside_the_same_pictures_unchanged(self):
        variants = [("blur", 2.5, 0, "undecided"), ("blur", 1.5, 0, "approve"), ("blur", 2.5, 4, "approve")]
        changed = [
            (replace(JUDGED[of][0], variant={"of": of, "kind": kind, "level": level}), answer(said))
            for kind, level, of, said in variants
        ]
        figures = measure_robustness(changed, JUDGED)
        self.assertEqual([(it["kind"], it["level"]) for it in figures],
                         [("unchanged", None), ("blur", 1.5), ("blur", 2.5)])  # fmt: skip
        self.assertEqual([(it["good"], it["flawed"]) for it in figures], [(1, 1), (1, 0), (1, 1)])
        self.assertEqual(figures[2]["false_approvals"]["count"], 1)


class Written(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)
        flawed = [it for it in JUDGED if it[0].flawed]
        changed = [(replace(JUDGED[0][0], variant={"of": 0, "kind": "blur", "level": 1.5}), answer("approve"))]
        self.evaluation = {
            "candidate": "efficientnet_b0",
            "data": {"kind": "synthetic"},
            "policy": {"temperature": 1.0, "approve_at": 0.95, "reject_at": 0.5},
            "test": measure_test(JUDGED),
            "sizes": measure_sizes(flawed, [8, 14, 20, 30]),
            "robustness": measure_robustness(changed, JUDGED),
        }

    def test_metrics_and_points_of_the_curves(self):
        with mock.patch.object(evaluate, "METRICS", self.folder):
            evaluate.write_metrics(self.evaluation)
        metrics = read_json(self.folder / "efficientnet_b0.json", "")
        self.assertEqual((metrics["false_approvals"], metrics["worst_bin_from_14px"]), (1, 1.0))
        sizes = (self.folder / "efficientnet_b0" / "sizes.csv").read_text().splitlines()
        self.assertEqual((sizes[0], sizes[1].split(",")[:4]), ("from,to,n,share,low,high", ["8", "14", "1", "0.0"]))

    def test_what_was_staged_after_its_calibration_is_not_evaluated(self):
        write_json(self.folder / "efficientnet_b0" / "calibration.json", self.evaluation["policy"])
        with mock.patch.object(evaluate, "CANDIDATES", self.folder):
            evaluate.check_calibrated("efficientnet_b0", Policy(1.0, 0.95, 0.5))
            with self.assertRaisesRegex(SystemExit, "training.judge.calibrate efficientnet_b0"):
                evaluate.check_calibrated("efficientnet_b0", Policy(1.0, 0.98, 0.5))

    def test_plots_are_small_pictures(self):
        for name in ("efficientnet_b0", "mobilenet_v3_small"):
            write_json(self.folder / name / "evaluation.json", self.evaluation)
        drawn = draw("efficientnet_b0", self.folder / "figures", self.folder)
        self.assertEqual(sorted(drawn), sorted(it.name for it in (self.folder / "figures").iterdir()))
        for name in drawn:
            content = (self.folder / "figures" / name).read_bytes()
            self.assertTrue(content.startswith(b"\x89PNG"))
            self.assertLess(len(content), 40_000, name)

    def test_a_missing_evaluation_says_what_to_run(self):
        with self.assertRaisesRegex(SystemExit, "training.judge.evaluate efficientnet_b0"):
            draw("efficientnet_b0", self.folder / "figures", self.folder)


if __name__ == "__main__":
    unittest.main()
