import unittest

import numpy as np

from training.judge.statistics import clopper_pearson, proportion, reliability, upper_bound


class ExactBounds(unittest.TestCase):
    def test_none_of_n_has_a_closed_form(self):
        low, high = clopper_pearson(0, 710)
        self.assertEqual(low, 0.0)
        self.assertAlmostEqual(high, 1 - 0.025 ** (1 / 710), places=12)
        self.assertAlmostEqual(upper_bound(0, 710), 1 - 0.05 ** (1 / 710), places=12)

    def test_all_of_n_mirrors_none(self):
        low, high = clopper_pearson(710, 710)
        self.assertAlmostEqual(low, 0.025 ** (1 / 710), places=12)
        self.assertEqual(high, 1.0)

    def test_a_share_between_as_in_the_tables(self):
        # R: binom.test(10, 100)$conf.int
        low, high = clopper_pearson(10, 100)
        self.assertAlmostEqual(low, 0.04900469, places=7)
        self.assertAlmostEqual(high, 0.17622260, places=7)

    def test_of_nothing_nothing_is_known(self):
        self.assertEqual(proportion(0, 0), {"count": 0, "n": 0, "share": None, "low": 0.0, "high": 1.0})


class Reliability(unittest.TestCase):
    def test_scores_that_keep_their_word_have_no_error(self):
        scores = np.array([[0.75, 0.25, 0.0]] * 4)
        figures = reliability(scores, np.array([0, 0, 0, 1]))
        self.assertEqual(figures["expected_error"], 0.0)
        # Three times 0.25^2 + 0.25^2, once 0.75^2 + 0.75^2, over 4.
        self.assertEqual(figures["brier"], 0.375)

    def test_the_error_is_weighted_by_the_vials_of_a_bin(self):
        scores = np.array([[1.0, 0.0, 0.0]] * 3 + [[0.0, 0.4, 0.6]])
        figures = reliability(scores, np.array([0, 0, 1, 2]))
        # Three at 1.0 of which 2/3 are right, one at 0.6 that is right.
        self.assertAlmostEqual(figures["expected_error"], (3 * (1 - 2 / 3) + 0.4) / 4, places=6)
        self.assertEqual([it["n"] for it in figures["bins"]], [1, 3])


if __name__ == "__main__":
    unittest.main()
