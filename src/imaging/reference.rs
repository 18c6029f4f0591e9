//! The reference pipeline's pixels, as a package ships them, and how far ours are from them.

use std::io::Cursor;

use image::{ImageFormat, ImageReader};

use super::{error::ImageError, header::Format, spec::Colour, workspace::Pixels};

/// What the training pipeline made of a golden image: u8 after resize and crop.
#[derive(Debug)]
pub struct Reference {
    width: u32,
    height: u32,
    channels: u8,
    data: Vec<u8>,
}

/// How far two pictures of one size are apart, in levels of 0..=255.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// The largest difference of a value.
    pub max: u8,
    /// The mean difference of all values.
    pub mean: f64,
}

impl Reference {
    /// Reads a PNG that was sealed with its package; it is stored as RGB or grey and turned into
    /// the channel order of the model.
    ///
    /// # Errors
    /// When it is no PNG.
    pub fn read_png(bytes: &[u8], colour: Colour) -> Result<Self, ImageError> {
        let broken =
            |_| ImageError::Undecodable { format: Format::Png, what: "it is no readable PNG" };
        let image = ImageReader::with_format(Cursor::new(bytes), ImageFormat::Png)
            .decode()
            .map_err(broken)?;
        let (width, height) = (image.width(), image.height());
        let mut data = match colour {
            Colour::Grey => image.into_luma8().into_raw(),
            Colour::Rgb | Colour::Bgr => image.into_rgb8().into_raw(),
        };
        if colour == Colour::Bgr {
            data.chunks_exact_mut(3).for_each(<[u8]>::reverse);
        }
        Ok(Self { width, height, channels: colour.channels(), data })
    }

    /// How far pixels are from the reference; `None` if their sizes differ.
    #[must_use]
    pub fn difference(&self, pixels: &Pixels) -> Option<Difference> {
        let same_size = (pixels.width, pixels.height) == (self.width, self.height);
        if !(same_size && [1, self.channels].contains(&pixels.channels)) || self.data.is_empty() {
            return None;
        }
        // A grey picture's one channel stands for all.
        let times = usize::from(self.channels / pixels.channels);
        let expanded = pixels.data().iter().flat_map(|it| std::iter::repeat_n(it, times));
        let pairs = self.data.iter().zip(expanded);
        let (max, sum) = pairs
            .map(|(a, b)| a.abs_diff(*b))
            .fold((0, 0_u64), |(max, sum), it| (it.max(max), sum + u64::from(it)));
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let mean = sum as f64 / self.data.len() as f64;
        Some(Difference { max, mean })
    }
}
