import json
import unittest
from collections import Counter

import numpy as np

from training.package.reference import PRINCIPAL, QUANTILES, Normal, embedding, feature, mix_weights, quantiles, shares


def cloud(seed: int, n: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings about a mean a label, wide along a few directions; and the labels."""
    rng = np.random.default_rng(seed)
    wide = np.concatenate([np.full(4, 5.0), np.full(size - 4, 0.5)])
    labels = np.where(np.arange(n) % 3 == 0, "particle", "good")
    return rng.normal(size=(n, size)) * wide + np.where(labels == "good", 0.0, 3.0)[:, None], labels


class Reference(unittest.TestCase):
    def test_weights_give_the_wanted_mix_and_are_one_on_average(self):
        have = Counter({"good": 5000, "particle": 1500, "chips_cracks": 1500})
        weights = mix_weights(have, {"good": 6830, "particle": 250, "chips_cracks": 460})
        counts = {label: weights[label] * have[label] for label in have}
        self.assertAlmostEqual(sum(counts.values()), 8000)
        self.assertAlmostEqual(counts["good"] / counts["particle"], 6830 / 250)

    def test_a_weight_of_two_is_two_pictures(self):
        once, weights = np.array([1.0, 2.0, 9.0]), np.array([2.0, 1.0, 1.0])
        twice, below = np.array([1.0, 1.0, 2.0, 9.0]), np.array([0.25, 0.5, 0.75, 1.0])
        np.testing.assert_array_equal(quantiles(once, weights, below), quantiles(twice, np.ones(4), below))
        self.assertEqual(feature(once, weights)["mean"], feature(twice, np.ones(4))["mean"])

    def test_the_bins_of_a_feature_hold_a_tenth_each(self):
        values = np.random.default_rng(1).normal(size=5000)
        told = feature(values, np.ones(5000))
        self.assertEqual((len(told["edges"]), len(told["shares"])), (9, 10))
        np.testing.assert_allclose(told["shares"], 0.1, atol=0.001)
        self.assertEqual(list(told["quantiles"]), [str(it) for it in QUANTILES])

    def test_bins_that_would_be_empty_are_joined(self):
        told = feature(np.zeros(50), np.ones(50))
        self.assertEqual((told["edges"], told["shares"]), ([0.0], [0.0, 1.0]))

    def test_shares_go_by_weight(self):
        self.assertEqual(shares(["a", "b", "a"], np.array([1.0, 6.0, 1.0])), {"b": 0.75, "a": 0.25})

    def test_the_distance_is_that_of_mahalanobis_where_all_directions_are_kept_or_equal(self):
        embeddings, labels = cloud(2, 3000, PRINCIPAL + 1)
        normal = Normal.fit(embeddings, labels, np.ones(len(labels)))
        apart = embeddings - np.array([normal.means[label] for label in labels])
        inverse = np.linalg.inv(apart.T @ apart / len(apart))
        exact = [
            np.sqrt(np.einsum("ni,ij,nj->n", embeddings - mean, inverse, embeddings - mean) / embeddings.shape[1])
            for mean in normal.means.values()
        ]
        np.testing.assert_allclose(normal.distance(embeddings), np.min(exact, axis=0), rtol=1e-6)

    def test_what_is_written_is_enough_to_find_a_stranger(self):
        embeddings, labels = cloud(3, 2000, 200)
        told = json.loads(json.dumps(embedding(embeddings, labels, np.ones(len(labels)))))
        self.assertEqual(np.shape(told["directions"]), (PRINCIPAL, 200))
        # As the docstring has it, from the file's numbers alone.
        directions, variances = np.array(told["directions"]), np.array(told["variances"])

        def distance(x: np.ndarray) -> float:
            squares = []
            for mean in told["means"].values():
                r = x - np.array(mean)
                p = directions @ r
                squares.append((p**2 / variances).sum() + (r @ r - p @ p) / told["residual_variance"])
            return float(np.sqrt(min(squares) / told["size"]))

        usual = [distance(it) for it in cloud(4, 200, 200)[0]]
        self.assertAlmostEqual(float(np.mean(usual)), 1.0, delta=0.1)
        self.assertAlmostEqual(told["distance"]["quantiles"]["50"], float(np.median(usual)), delta=0.05)
        self.assertGreater(distance(np.full(200, -3.0)), told["distance"]["quantiles"]["99.9"])


if __name__ == "__main__":
    unittest.main()
