import io
import tempfile
import unittest
from hashlib import sha256
from pathlib import Path

import numpy as np
from PIL import Image

from training import rows
from training.data.variants import VARIANTS, changed, write_robustness
from training.rows import Row


def blocks(seed: int) -> np.ndarray:
    """Coarse, so that JPEG and blur leave most of it; neither black nor white."""
    coarse = np.random.default_rng(seed).integers(40, 168, (12, 8, 3), np.uint8)
    return np.kron(coarse, np.ones((8, 8, 1), np.uint8))


class Changed(unittest.TestCase):
    def test_each_way_changes_what_it_says(self):
        pixels = blocks(1)
        read = {it: np.asarray(Image.open(io.BytesIO(changed(pixels, *it))), float) for it in VARIANTS}
        self.assertEqual({it.shape for it in read.values()}, {pixels.shape})
        for level in (0.85, 1.15):
            self.assertAlmostEqual(read["brightness", level].mean() / pixels.mean(), level, delta=0.01)
        self.assertLess(read["blur", 2.5].std(), read["blur", 1.5].std())
        self.assertLess(len(changed(pixels, "jpeg", 50)), len(changed(pixels, "jpeg", 75)))
        # No corner is left empty, and the two turns are of opposite sense.
        self.assertGreater(min(read["rotation", level].min() for level in (-3.0, 3.0)), 20)
        self.assertGreater(np.abs(read["rotation", 3.0] - read["rotation", -3.0]).mean(), 5)

    def test_an_unknown_way_is_refused(self):
        with self.assertRaisesRegex(ValueError, "colour"):
            changed(blocks(1), "colour", 1.0)


class Robustness(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.data = Path(folder.name)
        (self.data / "test").mkdir()
        self.test = []
        for index, label in enumerate(("good", "particle", "good", "chips_cracks", "good", "particle")):
            content = changed(blocks(index), "jpeg", 90)
            path = f"test/{index:06d}.jpg"
            (self.data / path).write_bytes(content)
            self.test.append(Row("test", index, label, sha256(content).hexdigest(), path, lot=f"L{index}"))

    def test_the_first_good_and_flawed_in_every_variant(self):
        write_robustness(self.test, self.data, 2)
        made = rows.read("robustness", self.data)
        self.assertEqual([row.index for row in made], list(range(4 * len(VARIANTS))))
        self.assertEqual([row.variant["of"] for row in made[:: len(VARIANTS)]], [0, 2, 1, 3])
        ways = [(row.variant["kind"], row.variant["level"]) for row in made]
        self.assertEqual(ways, VARIANTS * 4)
        for row in made:
            original = self.test[row.variant["of"]]
            self.assertEqual((row.label, row.lot), (original.label, original.lot))
            self.assertEqual(sha256((self.data / row.path).read_bytes()).hexdigest(), row.sha256)

    def test_there_may_be_fewer_than_are_asked_for(self):
        write_robustness(self.test, self.data, 300)
        self.assertEqual(len(rows.read("robustness", self.data)), 6 * len(VARIANTS))

    def test_a_variant_is_made_once_and_anew_for_another_picture(self):
        write_robustness(self.test, self.data, 2)
        file = self.data / "robustness/000000.jpg"
        before = file.stat().st_mtime_ns
        write_robustness(self.test, self.data, 2)
        self.assertEqual(file.stat().st_mtime_ns, before)
        write_robustness(self.test[1:], self.data, 2)
        self.assertNotEqual(file.stat().st_mtime_ns, before)


if __name__ == "__main__":
    unittest.main()
