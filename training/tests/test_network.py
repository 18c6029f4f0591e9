import tempfile
import unittest
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from training.network import train
from training.network.batches import IGNORED, Split, cell_labels, draw, order
from training.network.export import OUTPUTS, export, fold_batch_norm, session
from training.network.model import CELL, NETWORKS, VialNet, normalise
from training.network.train import Run, cell_loss, hardness, note_losses, rate_at
from training.preprocess import INPUT_HEIGHT, INPUT_WIDTH, normalised

CELLS = (INPUT_HEIGHT // CELL, INPUT_WIDTH // CELL)
SETTINGS = {
    "seed": 1,
    "weight_decay": 0.02,
    "average_decay": 0.99,
    "class_weights": [1.0, 2.0, 2.0],
    "phases": [
        {
            "name": "crops",
            "side": 64,
            "batch": 4,
            "steps": 6,
            "peak_rate": 1e-3,
            "final_rate": 1e-4,
        }
    ],
}


def network(name: str) -> VialNet:
    torch.manual_seed(0)
    model = VialNet(name).eval()
    torch.nn.init.normal_(model.evidence.weight, std=0.5)
    torch.nn.init.normal_(model.bias)
    # Random statistics, so that folding them is a real test.
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model


def pictures(count: int = 6) -> Split:
    """Noise; every second one with a bright square where its mask says."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 90, (count, INPUT_HEIGHT, INPUT_WIDTH, 3), np.uint8)
    masks = np.zeros((count, INPUT_HEIGHT, INPUT_WIDTH), bool)
    labels = np.arange(count) % 2
    masks[1::2, 100:120, 40:60] = True
    images[masks] = 255
    return Split(images, labels, np.packbits(masks, axis=2))


class Model(unittest.TestCase):
    @torch.inference_mode()
    def test_logits_are_the_mean_of_cam_plus_bias(self):
        for name, (_, width) in NETWORKS.items():
            with self.subTest(name):
                model = network(name)
                logits, cam, embedding = model(torch.randn(2, 3, INPUT_HEIGHT, INPUT_WIDTH))
                self.assertEqual((logits.shape, cam.shape, embedding.shape), ((2, 3), (2, 3, *CELLS), (2, width)))
                torch.testing.assert_close(logits, cam.mean((2, 3)) + model.bias)

    @torch.inference_mode()
    def test_one_flawed_cell_outweighs_all_others(self):
        model = network("mobilenet_v3_small")
        model.bias.zero_()
        evidence = torch.full((1, 2, *CELLS), -6.0)
        features = torch.zeros(1, 576, *CELLS)
        self.assertEqual(model.judge(features, evidence).logits.argmax().item(), 0)
        evidence[0, 1, 3, 2] = 8.0
        answer = model.judge(features, evidence)
        self.assertEqual(answer.logits.argmax().item(), 2)
        self.assertEqual(answer.cam[0, 2].argmax().item(), 3 * CELLS[1] + 2)

    @torch.inference_mode()
    def test_the_file_answers_as_the_network_with_batch_norm(self):
        for name in NETWORKS:
            with self.subTest(name), tempfile.TemporaryDirectory() as folder:
                model, images = network(name), pictures(5).images
                before = model(normalise(torch.from_numpy(images))).logits.numpy()
                fold_batch_norm(model)
                self.assertFalse(any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules()))
                target = Path(folder) / "model.onnx"
                export(model, target)
                (logits,) = session(target).run(OUTPUTS[:1], {"image": normalised(images)})
                np.testing.assert_allclose(logits, before, rtol=1e-3, atol=1e-3)


class Batches(unittest.TestCase):
    def test_cells_are_flawed_ignored_or_good(self):
        masks = torch.zeros(1, 96, 96)
        # In the second cell, two pixels from the first.
        masks[0, 4:8, 34:38] = 1
        cells = cell_labels(masks, torch.tensor([2]))
        self.assertEqual(cells[0].tolist(), [[IGNORED, 2, 0], [0, 0, 0], [0, 0, 0]])

    def test_the_small_part_of_a_defect_in_a_neighbour_is_ignored(self):
        masks = torch.zeros(1, 64, 64)
        masks[0, 10, 20:35] = 1
        self.assertEqual(cell_labels(masks, torch.tensor([1]))[0, 0].tolist(), [1, IGNORED])

    def test_a_crop_without_the_defect_is_good_and_one_with_it_is_not(self):
        split, seen = pictures(), set()
        for step in range(30):
            batch = draw(split, np.array([1]), 64, np.random.default_rng(step))
            bright = (batch.images.amax(-1) > 180).sum().item()
            label = batch.labels.item()
            seen.add(label)
            if label == 0:
                self.assertEqual(bright, 0)
            if label == 1:
                self.assertGreater(bright, 40)
        self.assertLessEqual({0, 1}, seen)

    def test_whole_pictures_keep_their_labels(self):
        batch = draw(pictures(), np.arange(6), None, np.random.default_rng(0))
        self.assertEqual(batch.labels.tolist(), [0, 1, 0, 1, 0, 1])
        self.assertEqual(batch.cells.shape, (6, *CELLS))

    def test_without_masks_the_label_alone_teaches(self):
        split = pictures()
        split.masks = None
        batch = draw(split, np.arange(6), None, np.random.default_rng(0))
        self.assertIsNone(batch.cells)
        self.assertEqual(batch.labels.tolist(), [0, 1, 0, 1, 0, 1])

    def test_the_order_shows_every_picture_and_the_hard_ones_more_often(self):
        weights = np.array([1.0, 1.0, 1.0, 17.0])
        shown = np.bincount(order(weights, 400, (1,)), minlength=4)
        self.assertGreaterEqual(shown.min(), 50)
        self.assertGreater(shown[3], 2 * shown[:3].max())


class Training(unittest.TestCase):
    def test_an_interrupted_run_ends_with_the_same_weights(self):
        with tempfile.TemporaryDirectory() as folder, mock.patch("training.network.train.CANDIDATES", Path(folder)):
            (Path(folder) / "mobilenet_v3_small").mkdir()
            whole = self.begun()
            self.run_phase(whole)
            whole.path.unlink()
            with self.assertRaises(KeyboardInterrupt):
                self.run_phase(self.begun(), interrupted_at=5)
            resumed = self.begun()
            resumed.resume()
            # Between two rounds; the step that was begun is lost.
            self.assertEqual(resumed.step, 4)
            self.assertGreater(resumed.losses.unique().numel(), 2)
            self.run_phase(resumed)
            self.assertEqual(whole.phase, resumed.phase)
            for left, right in zip(whole.average.parameters(), resumed.average.parameters(), strict=True):
                torch.testing.assert_close(left, right, rtol=0, atol=0)

    def test_a_run_of_other_settings_or_pictures_begins_anew(self):
        with tempfile.TemporaryDirectory() as folder, mock.patch("training.network.train.CANDIDATES", Path(folder)):
            (Path(folder) / "mobilenet_v3_small").mkdir()
            run = self.begun()
            run.step = 3
            run.save()
            for settings, digest in (({**SETTINGS, "seed": 2}, "these"), (SETTINGS, "others")):
                other = Run("mobilenet_v3_small", settings, digest, torch.device("cpu"))
                other.resume()
                self.assertEqual(other.step, 0)

    def test_what_was_judged_badly_is_shown_more_often(self):
        run = self.begun()
        run.meet(6)
        logits = torch.tensor([[9.0, 0.0, 0.0], [9.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
        note_losses(run, np.array([0, 1, 2]), logits, torch.tensor([0, 1, IGNORED]))
        self.assertLess(run.losses[0].item(), 0.51)
        self.assertGreater(run.losses[1].item(), 4)
        self.assertEqual(run.losses[2:].tolist(), [1.0] * 4)
        weights = hardness(run.losses)
        self.assertGreater(weights[1], 3 * weights[2])

    def test_the_rate_rises_and_falls(self):
        phase = {"steps": 1000, "peak_rate": 1.0, "final_rate": 0.1}
        self.assertLess(rate_at(0, phase), 0.05)
        self.assertGreater(rate_at(100, phase), 0.9)
        self.assertLess(rate_at(999, phase), 0.11)

    def test_ignored_cells_teach_nothing(self):
        evidence = torch.randn(1, 2, 2, 2, requires_grad=True)
        cell_loss(evidence, torch.tensor([[[IGNORED, 0], [1, 2]]])).backward()
        self.assertTrue((evidence.grad[0, :, 0, 0] == 0).all())
        self.assertTrue((evidence.grad[0, :, 1, :] != 0).all())

    def begun(self) -> Run:
        return Run("mobilenet_v3_small", SETTINGS, "these", torch.device("cpu"))

    def run_phase(self, run: Run, interrupted_at: int | None = None):
        """Rounds of two steps; what is hard is shown more often from the second on."""
        steps = iter(range(100))

        def interruptible(*arguments):
            if next(steps) == interrupted_at:
                raise KeyboardInterrupt
            return draw(*arguments)

        with mock.patch.multiple(train, ROUND=2, draw=interruptible):
            train.run_phase(run, SETTINGS["phases"][0], pictures(), pictures())


if __name__ == "__main__":
    unittest.main()
