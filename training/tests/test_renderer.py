import unittest

import cv2
import numpy as np

from training import LABELS
from training.preprocess import INPUT_HEIGHT, INPUT_WIDTH, input_array
from training.vial.defects import CONTRAST_FLOOR, DRAWABLE, KINDS, SMALLEST_PX, Wanted
from training.vial.render import render
from training.vial.scene import FORMATS, IMAGE_HEIGHT, IMAGE_WIDTH, Lot, sample_lot

# Rendered differences of fewer levels are JPEG and blur, not the defect.
VISIBLE_LEVELS = 12


def lot(number: int) -> Lot:
    return sample_lot(f"L{number}", np.random.default_rng(number))


class Renderer(unittest.TestCase):
    def test_the_same_seed_gives_the_same_bytes(self):
        for label in LABELS:
            first, again = render((1, 2, 3), lot(1), label), render((1, 2, 3), lot(1), label)
            self.assertEqual(first.jpeg(), again.jpeg())
            self.assertEqual(first.defects, again.defects)

    def test_another_index_gives_another_picture(self):
        first, other = render((1, 2, 3), lot(1), "good"), render((1, 2, 4), lot(1), "good")
        self.assertGreater(np.abs(first.pixels.astype(int) - other.pixels).mean(), 1)

    def test_pictures_are_portrait_and_fit_the_input(self):
        picture = render((1, 2, 3), lot(1), "good")
        self.assertEqual(picture.pixels.shape, (IMAGE_HEIGHT, IMAGE_WIDTH, 3))
        self.assertEqual(input_array(picture.jpeg()).shape, (INPUT_HEIGHT, INPUT_WIDTH, 3))
        self.assertEqual(picture.mask.shape, (INPUT_HEIGHT, INPUT_WIDTH))

    def test_vials_of_a_lot_share_what_the_line_sets_up(self):
        first, other = render((1, 2, 3), lot(5), "good").scene, render((1, 2, 4), lot(5), "good").scene
        self.assertEqual(first.vial.cap_colour, other.vial.cap_colour)
        self.assertNotEqual(first.vial.radius, other.vial.radius)
        self.assertIn(first.lot.vial_size, FORMATS)

    def test_good_vials_have_no_defects_and_flawed_ones_do(self):
        for index in range(8):
            for label in LABELS:
                picture = render((5, index), lot(index), label)
                self.assertEqual(bool(picture.defects), label != "good")
                self.assertEqual(bool(picture.mask.any()), label != "good")
                for defect in picture.defects:
                    self.assertEqual(KINDS[defect.kind].label, label)
                    self.assertGreaterEqual(defect.extent_px, SMALLEST_PX - 0.01)
                    self.assertGreaterEqual(defect.contrast, CONTRAST_FLOOR)

    def test_a_defect_that_is_asked_for_is_drawn_at_that_size(self):
        for number, (kind, (low, _)) in enumerate(DRAWABLE.items()):
            with self.subTest(kind):
                wanted = Wanted(kind, low, low * 1.2)
                (defect,) = render((9, number), lot(number), KINDS[kind].label, wanted).defects
                self.assertEqual(defect.kind, kind)
                self.assertGreaterEqual(defect.extent_px, low - 0.01)

    def test_a_defect_is_seen_where_the_metadata_says(self):
        for index in range(12):
            for label in LABELS[1:]:
                with self.subTest(index=index, label=label):
                    self.check_defect_is_seen(index, label)

    def check_defect_is_seen(self, index: int, label: str):
        """Against the same vial without it, the defect is visible and no smaller than recorded."""
        flawed, clean = render((7, index), lot(index), label), render((7, index), lot(index), "good")
        difference = np.abs(flawed.pixels.astype(np.float32) - clean.pixels).max(-1)
        defect = flawed.defects[0]
        x, y = (int(value) for value in defect.centre)
        reach = int(defect.extent_px / 2) + 6
        rows, columns = slice(max(y - reach, 0), y + reach), slice(max(x - reach, 0), x + reach)
        seen = np.argwhere(difference[rows, columns] > VISIBLE_LEVELS)
        self.assertGreater(len(seen), 20)
        hull = cv2.convexHull(seen.astype(np.int32)).reshape(-1, 2).astype(float)
        extent = np.linalg.norm(hull[:, None] - hull[None], axis=-1).max() + 1
        self.assertGreaterEqual(extent, 0.8 * min(defect.extent_px, 2 * reach))


if __name__ == "__main__":
    unittest.main()
