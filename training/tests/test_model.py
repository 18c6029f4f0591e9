import unittest

import numpy as np
import torch
from PIL import Image

from training.decision import Policy
from training.export import fold_batch_norm
from training.golden import as_jpeg, as_turned_jpeg
from training.model import VialNet, normalise
from training.train import IGNORED, cell_labels
from training.vial.dataset import to_input
from training.vial.render import MAP_SIZE, render


class Model(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(0)
        self.model = VialNet().eval()
        torch.nn.init.normal_(self.model.weight, std=1.0)
        torch.nn.init.normal_(self.model.bias)
        # Random statistics, so that folding them is a real test.
        for module in self.model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
                torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
        self.images = torch.randn(2, 3, 224, 224)

    @torch.inference_mode()
    def test_logits_are_the_mean_of_cam_plus_bias(self):
        logits, cam, embedding = self.model(self.images)
        self.assertEqual((logits.shape, cam.shape, embedding.shape), ((2, 3), (2, 3, 7, 7), (2, 1280)))
        torch.testing.assert_close(logits, cam.mean((2, 3)) + self.model.bias)

    @torch.inference_mode()
    def test_logits_are_the_classifier_on_the_embedding(self):
        logits, _, embedding = self.model(self.images)
        weight = self.model.weight.flatten(1)
        torch.testing.assert_close(logits, embedding @ weight.T + self.model.bias, rtol=1e-4, atol=1e-4)

    @torch.inference_mode()
    def test_folding_batch_norm_changes_nothing(self):
        before = self.model(self.images).logits
        fold_batch_norm(self.model)
        self.assertFalse(any(isinstance(module, torch.nn.BatchNorm2d) for module in self.model.modules()))
        torch.testing.assert_close(self.model(self.images).logits, before, rtol=1e-4, atol=1e-4)

    def test_normalise_gives_channels_first(self):
        black = normalise(torch.zeros(1, 8, 8, 3, dtype=torch.uint8))
        self.assertEqual(black.shape, (1, 3, 8, 8))
        self.assertAlmostEqual(black[0, 0, 0, 0].item(), -0.485 / 0.229, places=5)


class CellLabels(unittest.TestCase):
    def test_cells_are_flawed_ignored_or_good(self):
        maps = torch.zeros(1, MAP_SIZE, MAP_SIZE, dtype=torch.uint8)
        # In the second cell, one map pixel from the first.
        maps[0, 4, 9] = 1
        cells = cell_labels(maps, torch.tensor([2]))
        self.assertEqual(cells.shape, (1, 7, 7))
        self.assertEqual(cells[0, 0, :3].tolist(), [IGNORED, 2, 0])
        self.assertEqual(int((cells == 2).sum()), 1)


class Decision(unittest.TestCase):
    policy = Policy(temperature=1.0, approve_at=0.98, reject_at=0.5)

    def test_verdicts(self):
        cases = [
            ((0.99, 0.005, 0.005), "approve", "ok", None),
            ((0.981, 0.010, 0.009), "approve", "ok", None),
            ((0.9805, 0.010, 0.0095), "undecided", "low_confidence", None),
            ((0.3, 0.5, 0.2), "reject", "defect", "particle"),
            ((0.1, 0.2, 0.7), "reject", "defect", "chips_cracks"),
            ((0.4, 0.3, 0.3), "undecided", "low_confidence", None),
        ]
        for scores, decision, reason, label in cases:
            expected = {"decision": decision, "reason": reason, "class": label}
            self.assertEqual(self.policy.verdict(np.array(scores)), expected, scores)

    def test_scores_sum_to_one_and_soften_with_temperature(self):
        logits = np.array([4.0, 1.0, -2.0])
        warm = Policy(2.0, 0.98, 0.5).scores(logits)
        self.assertAlmostEqual(warm.sum(), 1.0)
        self.assertLess(warm[0], self.policy.scores(logits)[0])


class Orientation(unittest.TestCase):
    def test_a_turned_jpeg_is_read_upright(self):
        upright = Image.fromarray(render((1, 2, 3), "good").pixels)
        turned = np.asarray(to_input(as_turned_jpeg(upright)), int)
        plain = np.asarray(to_input(as_jpeg(upright)), int)
        self.assertLess(np.abs(turned - plain).mean(), 1.0)


if __name__ == "__main__":
    unittest.main()
