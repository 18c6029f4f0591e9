import tempfile
import unittest
from collections import Counter
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from unittest import mock

import numpy as np

from training.data import generate
from training.data.audit import mask_extent
from training.params import params
from training.rows import read
from training.vial.defects import DRAWABLE, Wanted

SMALL = {"good": 2, "particle": 2, "chips_cracks": 2}


class Here:
    """A pool of one: this process."""

    def map(self, function, tasks, chunksize):
        return map(function, tasks)


class Tasks(unittest.TestCase):
    def test_a_split_has_the_counts_that_were_asked_for(self):
        for split in ("train", "calibration", "test"):
            labels = Counter(task.label for task in generate.tasks_of(split))
            self.assertEqual(dict(labels), params()["data"][split])

    def test_splits_share_neither_seeds_nor_lots(self):
        tasks = {split: generate.tasks_of(split)[:200] for split in generate.STREAMS}
        seeds = [task.seed for some in tasks.values() for task in some]
        self.assertEqual(len(seeds), len(set(seeds)))
        lots = [{task.lot().name for task in some} for some in tasks.values()]
        self.assertEqual(len(set.union(*lots)), sum(map(len, lots)))

    def test_every_bin_of_sizes_is_full_and_of_kinds_that_can_be_drawn_there(self):
        sizes = params()["data"]["sizes"]
        bins = Counter((task.wanted.low, task.wanted.high) for task in generate.tasks_of("sizes"))
        self.assertEqual(set(bins), set(pairwise(sizes["edges"])))
        self.assertEqual(set(bins.values()), {sizes["each"]})
        for task in generate.tasks_of("sizes"):
            low, high = DRAWABLE[task.wanted.kind]
            self.assertTrue(low <= task.wanted.low and task.wanted.high <= high)

    def test_cracks_are_hidden_where_they_were_asked_for(self):
        tasks = generate.tasks_of("hidden")
        self.assertEqual(Counter(task.wanted.place for task in tasks), params()["data"]["hidden"])
        for task in tasks[:8]:
            picture = task.render()
            vial, (crack,) = picture.scene.vial, picture.defects
            row = np.linalg.inv(np.vstack([picture.scene.pose.matrix(), (0, 0, 1)])) @ (*crack.centre, 1)
            if task.wanted.place == "print":
                self.assertTrue(task.lot().print_lines)
                self.assertTrue(0 < row[1] - vial.body_top < 90)
            else:
                self.assertLess(abs(row[1] - vial.fill_line), vial.meniscus_rise + 30)

    def test_what_the_outline_cut_short_of_the_wanted_size_leaves_no_trace(self):
        # The first crack of this one ends where the glass does, at 67 of at least 70 px.
        picture = generate.Task("sizes", 4853, "chips_cracks", Wanted("crack", 70, 140)).render()
        shown = mask_extent(picture.mask.astype(np.uint8))
        self.assertAlmostEqual(shown, picture.defects[0].extent_px, delta=10)


class Rendered(unittest.TestCase):
    def test_an_interrupted_run_is_taken_up_and_ends_with_the_same_set(self):
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other, self.small():
            generate.generate("validation", Here(), Path(one))
            with self.assertRaises(KeyboardInterrupt):
                generate.generate("validation", self.interrupted(5), Path(other))
            self.assertFalse((Path(other) / "validation.jsonl").exists())
            generate.generate("validation", Here(), Path(other))
            self.assertEqual(read("validation", Path(one)), read("validation", Path(other)))
            for name in ("validation.images.npy", "validation.masks.npy"):
                np.testing.assert_array_equal(np.load(Path(one) / name), np.load(Path(other) / name))
            left, right = (sorted(it.name for it in Path(folder).iterdir()) for folder in (one, other))
            self.assertEqual(left, right)

    def test_pictures_to_be_judged_are_kept_as_files_that_the_rows_name(self):
        with tempfile.TemporaryDirectory() as folder, self.small():
            generate.generate("test", Here(), Path(folder))
            rows = read("test", Path(folder))
            self.assertEqual(len(rows), 6)
            self.assertTrue(all((Path(folder) / row.path).is_file() for row in rows))
            self.assertEqual(generate.digest_of(rows), generate.summary(Path(folder))["splits"]["test"]["digest"])

    def test_a_split_that_was_made_from_something_else_is_rendered_anew(self):
        changes = (
            self.small(seed=7),
            self.small(test={**SMALL, "good": 3}),
            mock.patch.object(generate, "GENERATOR_REVISION", 99),
            mock.patch.object(generate, "INPUT_WIDTH", 96),
        )
        with tempfile.TemporaryDirectory() as folder, self.small():
            data = Path(folder)
            for change in changes:
                generate.generate("test", Here(), data)
                kept = (data / "test.jsonl").stat().st_mtime_ns
                generate.generate("test", Here(), data)
                self.assertEqual((data / "test.jsonl").stat().st_mtime_ns, kept)
                with change, self.assertRaises(KeyboardInterrupt):
                    generate.generate("test", self.interrupted(0), data)
                self.assertFalse((data / "test.jsonl").exists())
                self.assertEqual(list((data / "test").iterdir()), [])

    def test_photographs_are_not_taken_for_rendered_pictures(self):
        with tempfile.TemporaryDirectory() as folder, self.small():
            generate.generate("test", Here(), Path(folder))
            (Path(folder) / "test.made_from.json").unlink()
            with self.assertRaises(KeyboardInterrupt):
                generate.generate("test", self.interrupted(0), Path(folder))

    @contextmanager
    def small(self, **changes):
        data = {**params()["data"], "validation": SMALL, "test": SMALL, **changes}
        with mock.patch.dict(params(), data=data), mock.patch.object(generate, "CHUNK", 2):
            yield

    def interrupted(self, after: int):
        calls = iter(range(after))

        class Pool:
            def map(self, function, tasks, chunksize):
                for task in tasks:
                    if next(calls, None) is None:
                        raise KeyboardInterrupt
                    yield function(task)

        return Pool()


if __name__ == "__main__":
    unittest.main()
