import math
import unittest

import numpy as np

from training import LABELS
from training.judge.calibrate import (
    APPROVE_LEAST,
    THRESHOLD_MOST,
    calibrate,
    fit_temperature,
    lowest_approve_at,
    lowest_reject_at,
    report,
    tail_of,
)
from training.judge.decision import SCORE_TOLERANCE, Policy, log_odds, logits_of

DECIDE = {"approve_risk": 1e-4, "reject_share": 4e-4}


def made(good: np.ndarray, flawed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose log-odds are these, near enough: of the flaws one is far likelier than the other."""
    odds, truth = np.concatenate([good, flawed]), np.repeat([0, 1], [len(good), len(flawed)])
    truth[len(good) :: 2] = 2
    # The likelier flaw of a good vial is a particle, of a flawed one what it is.
    logits = np.full((len(odds), 3), -30.0)
    logits[:, 0] = odds
    logits[np.arange(len(odds)), np.maximum(truth, 1)] = 0.0
    return logits, truth


def drawn(good_at: float, flawed_at: float, spread: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    return made(random.normal(good_at, spread, 5000), random.normal(flawed_at, spread, 3000))


class Rule(unittest.TestCase):
    def test_no_flawed_vial_is_approved_and_few_good_are_rejected(self):
        for good_at, flawed_at in ((9, -9), (5, -5), (3, -3), (12, 1)):
            logits, truth = drawn(good_at, flawed_at)
            policy, tail = calibrate(logits, truth, DECIDE)
            verdicts = [policy.verdict(it)["decision"] for it in policy.scores(logits)]
            self.assertNotIn("approve", verdicts[5000:])
            self.assertLessEqual(verdicts[:5000].count("reject"), 2)
            self.assertGreater(policy.approve_at, 1 - policy.reject_at)
            self.assertLessEqual(max(policy.approve_at, policy.reject_at), THRESHOLD_MOST)
            self.assertLess(policy.approve_at + SCORE_TOLERANCE, 1)
            self.assertGreaterEqual(math.log(policy.approve_at / (1 - policy.approve_at)), tail.level)

    def test_well_separated_vials_keep_the_least_thresholds(self):
        policy, _ = calibrate(*drawn(12, -12), DECIDE)
        self.assertEqual((policy.approve_at, policy.reject_at), (APPROVE_LEAST, 0.5))

    def test_the_report_counts_every_vial(self):
        logits, truth = drawn(5, -5)
        said = report(logits, truth, DECIDE)
        self.assertEqual(said["n"], {"good": 5000, "particle": 1500, "chips_cracks": 1500})
        self.assertEqual([sum(said["decisions"][label].values()) for label in LABELS], [5000, 1500, 1500])


class Tail(unittest.TestCase):
    def test_the_level_is_that_of_the_exponential(self):
        # Quantiles of an exponential with mean 2 above 1: its level for a risk is known.
        odds = 1 - 2 * np.log((np.arange(4000) + 0.5) / 4000)
        tail = tail_of(odds, 1e-4)
        self.assertEqual(tail.n, 200)
        self.assertAlmostEqual(tail.mean_excess, 2, delta=0.02)
        self.assertAlmostEqual(tail.level, 1 + 2 * math.log(1e4), delta=0.1)
        self.assertEqual(tail.level, tail.start + tail.mean_excess * math.log(0.05 / 1e-4))

    def test_one_flawed_vial_far_above_the_rest_sets_the_threshold(self):
        tail = tail_of(np.append(np.linspace(-9, -8, 999), 4.0), 1e-4)
        self.assertLess(tail.level, 4)
        # Rounded up: the vial itself does not reach it.
        approve_at = lowest_approve_at(tail)
        self.assertGreater(approve_at, 1 / (1 + math.exp(-4)))
        self.assertLess(approve_at, 1 / (1 + math.exp(-4)) + 1e-4)


class Reject(unittest.TestCase):
    def test_so_many_of_the_good_are_given_up(self):
        worst = np.concatenate([np.full(4996, 0.01), [0.7, 0.8104, 0.9, 0.95]])
        self.assertEqual(lowest_reject_at(worst, 4e-4), 0.811)

    def test_a_score_that_is_equal_rejects(self):
        self.assertEqual(lowest_reject_at(np.array([0.75] * 10), 0.0), 0.751)

    def test_it_is_never_below_a_half(self):
        self.assertEqual(lowest_reject_at(np.array([0.1] * 10), 4e-4), 0.5)


class Temperature(unittest.TestCase):
    def test_scores_that_are_too_sure_are_softened_as_they_need(self):
        random = np.random.default_rng(2)
        logits = random.normal(0, 2, (6000, 3))
        scores = Policy(1.0, 1.0, 1.0).scores(logits)
        truth = np.array([random.choice(3, p=it) for it in scores])
        self.assertAlmostEqual(fit_temperature(logits, truth), 1.0, delta=0.05)
        self.assertAlmostEqual(fit_temperature(logits * 3, truth), 3.0, delta=0.15)

    def test_a_threshold_that_would_be_too_high_softens_the_scores_no_further_than_needed(self):
        random = np.random.default_rng(1)
        # One flawed vial looks good; without it these would be told apart with ease.
        flawed = np.append(random.normal(-9, 1, 2999), 6.0)
        logits, truth = made(random.normal(9, 1, 5000), flawed)
        policy, tail = calibrate(logits, truth, DECIDE)
        self.assertGreater(policy.temperature, fit_temperature(logits, truth))
        self.assertAlmostEqual(tail.highest, 6 / policy.temperature, places=3)
        self.assertAlmostEqual(policy.approve_at, THRESHOLD_MOST, delta=0.0005)

    def test_logits_come_back_from_scores_to_a_constant(self):
        logits = np.array([[3.0, -20.0, -30.0], [-40.0, 2.0, 1.0]])
        back = logits_of(Policy(1.0, 1.0, 1.0).scores(logits))
        np.testing.assert_allclose(back - back[:, :1], logits - logits[:, :1], atol=1e-9)
        np.testing.assert_allclose(log_odds(back), log_odds(logits), atol=1e-9)

    def test_a_score_of_zero_is_a_finite_logit(self):
        self.assertTrue(np.isfinite(logits_of(np.array([1.0, 0.0, 0.0]))).all())


if __name__ == "__main__":
    unittest.main()
