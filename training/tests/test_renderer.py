import json
import unittest

import cv2
import numpy as np

from training.vial import LABELS
from training.vial.dataset import SPLITS, input_array, label_of, sample
from training.vial.defects import SMALLEST_PX
from training.vial.render import render

# Rendered differences of fewer levels are JPEG and blur, not the defect.
VISIBLE_LEVELS = 12


class Renderer(unittest.TestCase):
    def test_the_same_seed_gives_the_same_bytes(self):
        for label in LABELS:
            first, again = render((1, 2, 3), label), render((1, 2, 3), label)
            np.testing.assert_array_equal(first.pixels, again.pixels)
            self.assertEqual(first.jpeg(), again.jpeg())
            self.assertEqual(first.metadata(), again.metadata())

    def test_another_index_gives_another_picture(self):
        first, other = render((1, 2, 3), "good"), render((1, 2, 4), "good")
        self.assertGreater(np.abs(first.pixels.astype(int) - other.pixels).mean(), 1)

    def test_pictures_are_1024_rgb(self):
        self.assertEqual(render((1, 2, 3), "good").pixels.shape, (1024, 1024, 3))
        self.assertEqual(input_array(render((1, 2, 3), "good").jpeg()).shape, (224, 224, 3))

    def test_good_vials_have_no_defects_and_flawed_ones_do(self):
        for index in range(12):
            for label in LABELS:
                picture = render((5, index), label)
                self.assertEqual(bool(picture.defects), label != "good")
                self.assertEqual(bool(picture.defect_map.any()), label != "good")

    def test_no_defect_is_smaller_than_the_smallest(self):
        for index in range(30):
            for label in LABELS[1:]:
                for defect in render((6, index), label).defects:
                    self.assertGreaterEqual(defect.extent_px, SMALLEST_PX)

    def test_a_defect_is_seen_where_the_metadata_says(self):
        for index in range(20):
            for label in LABELS[1:]:
                with self.subTest(index=index, label=label):
                    self.check_defect_is_seen(index, label)

    def check_defect_is_seen(self, index: int, label: str):
        """Against the same vial without it, the defect is visible and no smaller than recorded."""
        flawed, clean = render((7, index), label), render((7, index), "good")
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


class Dataset(unittest.TestCase):
    def test_splits_are_balanced_and_do_not_share_pictures(self):
        for split in SPLITS.values():
            self.assertEqual(split.size % len(LABELS), 0)
        self.assertEqual(len({split.stream for split in SPLITS.values()}), len(SPLITS))
        self.assertNotEqual(sample("train", 0).jpeg(), sample("test", 0).jpeg())
        self.assertEqual(sample("test", 4).label, LABELS[label_of(4)])

    def test_metadata_is_json(self):
        row = json.loads(json.dumps(sample("test", 1).metadata()))
        self.assertEqual(row["label"], "particle")


if __name__ == "__main__":
    unittest.main()
