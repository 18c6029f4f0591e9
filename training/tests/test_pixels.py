"""The reference pixels where a package declares scaled decoding."""

import io
import unittest
from unittest import mock

import numpy as np
from PIL import Image, ImageOps

from training import preprocess
from training.package.pixels import to_input
from training.preprocess import INPUT_HEIGHT, INPUT_WIDTH


def picture(width: int, height: int, orientation: int = 1, kind: str = "JPEG") -> bytes:
    noise = np.random.default_rng(3).integers(0, 256, (height, width, 3)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, kind, exif=exif)
    return buffer.getvalue()


class Scaled(unittest.TestCase):
    def check(self, content: bytes, times: int) -> None:
        """Decoded so many times smaller."""
        decoded = []
        load = Image.Image.convert

        def noted(image: Image.Image, *arguments: object) -> Image.Image:
            decoded.append(image.size)
            return load(image, *arguments)

        with mock.patch.object(Image.Image, "convert", noted):
            scaled = to_input(content, "scaled")
        whole = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).size
        self.assertEqual(decoded[0], tuple(-(-side // times) for side in whole))
        self.assertEqual(scaled.size, (INPUT_WIDTH, INPUT_HEIGHT))
        same = np.array_equal(scaled, preprocess.to_input(content))
        self.assertEqual(same, times == 1)
        self.assertTrue(np.array_equal(to_input(content, "full"), preprocess.to_input(content)))

    def test_the_most_that_leaves_no_fewer_pixels_than_the_input_has(self):
        self.check(picture(512, 1024), 2)
        self.check(picture(768, 1539), 4)
        self.check(picture(INPUT_WIDTH * 2 - 1, INPUT_HEIGHT * 2), 1)

    def test_a_sideways_picture_is_drafted_as_it_is_stored(self):
        # Upright 512 x 1024. Taken as stored, it would be too low to be drafted at a half.
        self.check(picture(1024, 512, orientation=6), 2)

    def test_png_is_decoded_in_full(self):
        self.check(picture(512, 1024, kind="PNG"), 1)


if __name__ == "__main__":
    unittest.main()
