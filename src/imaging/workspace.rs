//! What one thread keeps from image to image, and the whole way from bytes to pixels.

use super::{
    decode::{decode_jpeg, decode_png},
    error::ImageError,
    exif::Orientation,
    geometry::{Reduction, Size},
    header::{Limits, Source},
    orient,
    preprocess::Preprocess,
    resize::{Input, Scaler, room_in},
    spec::{Colour, Decode},
};

/// Buffers up to this size are kept for the next image: enough for 5 megapixels of RGB. Without a
/// bound, one large image would hold its memory in every thread for ever.
const KEEP_BYTES: usize = 16 << 20;

/// Of buffers handed back so much is kept: nine pictures of 384 x 192.
const SPARE_BYTES: usize = 2 << 20;

/// What one thread needs to decode and resize. Its buffers are reused from image to image; nothing
/// of one image can reach the next.
#[derive(Debug, Default)]
pub struct Workspace {
    scaler: Scaler,
    /// The image as stored, in the channels it is resized in.
    decoded: Vec<u8>,
    /// The image turned upright, where it was not.
    upright: Vec<u8>,
    /// The image in its own channels, where those are others.
    raw: Vec<u8>,
    /// Of images that are done with; at most [`SPARE_BYTES`] together.
    spare: Vec<Vec<u8>>,
}

/// An image ready to be normalised: after decoding, orientation, colour conversion, resize and crop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pixels {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Bytes a pixel: 3, in the order of the package's `colour`, or 1, which stands for every
    /// channel of the model.
    pub channels: u8,
    /// Always `width * height * channels` long.
    data: Vec<u8>,
}

impl Pixels {
    #[cfg(test)]
    pub(super) fn new(width: u32, height: u32, channels: u8, data: Vec<u8>) -> Self {
        Self { width, height, channels, data }
    }

    /// Row by row from the top, channels interleaved.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.data
    }
}

/// Where the pixels of an image go, and which.
pub(super) struct Canvas<'a> {
    /// The model's channels, or the one of a grey image.
    pub(super) colour: Colour,
    /// Columns times rows, as stored but for a reduction, times the channels of `colour`.
    pub(super) decoded: &'a mut [u8],
    /// Room for other channels, to be used through [`room_in`].
    pub(super) raw: &'a mut Vec<u8>,
}

impl Workspace {
    /// An empty workspace; buffers come with the first image.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Decodes an image and brings it to the size and channels the model takes.
    ///
    /// # Errors
    /// What [`super::inspect`] refuses, damaged or incomplete data, and what `preprocess` does not
    /// accept. After an error the workspace is as good as new.
    pub fn prepare(
        &mut self,
        bytes: &[u8],
        preprocess: &Preprocess,
        limits: &Limits,
    ) -> Result<Pixels, ImageError> {
        let result = self.prepare_keeping(bytes, preprocess, *limits);
        for buffer in [&mut self.decoded, &mut self.upright, &mut self.raw] {
            if buffer.capacity() > KEEP_BYTES {
                *buffer = Vec::new();
            }
        }
        self.scaler.shrink(KEEP_BYTES);
        result
    }

    /// Takes the buffer of an image that is done with, for one to come. Otherwise that one's is fresh
    /// from the kernel, page by page, as the server has the allocator give back blocks of that size.
    pub fn reuse(&mut self, pixels: Pixels) {
        let kept: usize = self.spare.iter().map(Vec::capacity).sum();
        if kept + pixels.data.capacity() <= SPARE_BYTES {
            self.spare.push(pixels.data);
        }
    }

    fn prepare_keeping(
        &mut self,
        bytes: &[u8],
        preprocess: &Preprocess,
        limits: Limits,
    ) -> Result<Pixels, ImageError> {
        let source = Source::read(bytes, limits)?;
        let orientation =
            if preprocess.follows_exif() { source.orientation() } else { Orientation::UPRIGHT };
        let turn = |it: Size| if orientation.swaps_sides() { it.turned() } else { it };
        let (width, height) = source.size();
        let stored = Size { width, height };
        let plan = preprocess.target().plan(turn(stored), limits)?;
        let reduction = match (&source, preprocess.decode()) {
            (Source::Jpeg(_), Decode::Scaled) => Reduction::down_to(turn(plan.resized), stored),
            (Source::Jpeg(_), Decode::Full) | (Source::Png(_), _) => Reduction::NONE,
        };
        let size = reduction.of(stored);
        // A third of the work: the channels of a grey image would stay equal to the end.
        let one_is_enough = source.is_grey() && preprocess.has_grey_margins();
        let colour = if one_is_enough { Colour::Grey } else { preprocess.colour() };

        let channels = colour.channels();
        let (width, height) = (size.width as usize, size.height as usize);
        let n = width * height * usize::from(channels);
        let decoded = room_in(&mut self.decoded, n);
        let canvas = Canvas { colour, decoded, raw: &mut self.raw };
        match &source {
            Source::Jpeg(head) => decode_jpeg(bytes, head, limits, reduction, canvas)?,
            Source::Png(head) if head.has_alpha && preprocess.refuses_alpha() => {
                return Err(ImageError::Unsupported {
                    what: "a PNG with transparency",
                    instead: "flatten it onto the background the model was trained with",
                });
            }
            Source::Png(head) => decode_png(bytes, head, canvas)?,
        }
        let mut data = &self.decoded[..n];
        if orientation != Orientation::UPRIGHT {
            let upright = room_in(&mut self.upright, n);
            orient::turn(data, (width, height), usize::from(channels), orientation, upright);
            data = upright;
        }
        let fill = &preprocess.fill()[..usize::from(channels)];
        let input = Input { data, size: turn(size), fill };
        let spare = self.spare.pop().unwrap_or_default();
        let data = self.scaler.run(input, plan, preprocess.filter(), spare);
        let Size { width, height } = plan.output;
        Ok(Pixels { width, height, channels, data })
    }
}
