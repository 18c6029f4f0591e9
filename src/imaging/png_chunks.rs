//! Walks over a PNG's chunks without inflating any: the header, and whether the end is there.

use super::{
    error::ImageError,
    header::{Format, Limits},
};

/// The eight bytes every PNG starts with.
pub(super) const MAGIC: &[u8] = b"\x89PNG\r\n\x1a\n";

/// One bit of deflate gives at most 129 bytes, a byte 1032.
const DEFLATE_MAX_RATIO: u64 = 1032;

/// How samples make up a pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Samples {
    Grey,
    Rgb,
    Palette,
    GreyAlpha,
    Rgba,
}

/// What is read from all chunks save the pixels.
#[derive(Debug)]
pub(super) struct PngHead<'a> {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) samples: Samples,
    /// Bits a pixel.
    bits: u64,
    /// Whether any pixel may be less than opaque: an alpha channel or a `tRNS` chunk.
    pub(super) has_alpha: bool,
    /// The last `eXIf` chunk, wherever it is (Pillow also reads it after the pixels).
    pub(super) exif: Option<&'a [u8]>,
}

impl<'a> PngHead<'a> {
    /// Reads the header and walks over the chunks up to `IEND`. Checksums are left to the decoder.
    pub(super) fn read(bytes: &'a [u8], limits: Limits) -> Result<Self, ImageError> {
        let mut rest = bytes.strip_prefix(MAGIC).unwrap_or(bytes);
        let Some(([b'I', b'H', b'D', b'R'], ihdr)) = next_chunk(&mut rest)? else {
            return Err(undecodable("it does not start with its header"));
        };
        let mut head = Self::parse_header(ihdr, limits)?;
        let mut n_compressed = 0_u64;
        loop {
            let Some((kind, data)) = next_chunk(&mut rest)? else {
                return Err(truncated("its end chunk is missing"));
            };
            match &kind {
                b"IEND" => break,
                b"IDAT" => n_compressed += data.len() as u64,
                b"tRNS" => head.has_alpha = true,
                b"eXIf" => head.exif = Some(data),
                b"acTL" => {
                    return Err(ImageError::Unsupported {
                        what: "an animated PNG",
                        instead: "send each picture as an image of its own",
                    });
                }
                _other => {}
            }
        }
        // Before room is made for pixels that cannot be there.
        if head.least_bytes() > n_compressed.saturating_mul(DEFLATE_MAX_RATIO) {
            return Err(truncated("it has far too little data for its size"));
        }
        Ok(head)
    }

    fn parse_header(ihdr: &[u8], limits: Limits) -> Result<Self, ImageError> {
        let malformed = || undecodable("its header is malformed");
        let &[w0, w1, w2, w3, h0, h1, h2, h3, depth, colour, _, _, _] = ihdr else {
            return Err(malformed());
        };
        let width = u32::from_be_bytes([w0, w1, w2, w3]);
        let height = u32::from_be_bytes([h0, h1, h2, h3]);
        if width == 0 || height == 0 {
            return Err(undecodable("it has no rows or no columns"));
        }
        limits.check(width, height)?;
        let samples = match (colour, depth) {
            (0 | 2 | 4 | 6, 16) => {
                return Err(ImageError::Unsupported {
                    what: "a PNG with 16 bits a sample",
                    instead: "convert it to 8 bits a sample, as the model was trained with",
                });
            }
            (0, 1 | 2 | 4 | 8) => Samples::Grey,
            (2, 8) => Samples::Rgb,
            (3, 1 | 2 | 4 | 8) => Samples::Palette,
            (4, 8) => Samples::GreyAlpha,
            (6, 8) => Samples::Rgba,
            _other => return Err(malformed()),
        };
        let bits = u64::from(depth)
            * match samples {
                Samples::Grey | Samples::Palette => 1,
                Samples::GreyAlpha => 2,
                Samples::Rgb => 3,
                Samples::Rgba => 4,
            };
        let has_alpha = matches!(samples, Samples::GreyAlpha | Samples::Rgba);
        Ok(Self { width, height, samples, bits, has_alpha, exif: None })
    }

    /// The bytes of all pixels, not counting what begins and pads the rows.
    fn least_bytes(&self) -> u64 {
        u64::from(self.width) * u64::from(self.height) * self.bits / 8
    }
}

/// A chunk's name and data.
type Chunk<'a> = ([u8; 4], &'a [u8]);

/// Takes the next chunk's name and data off `rest`; `None` where `rest` is empty.
fn next_chunk<'a>(rest: &mut &'a [u8]) -> Result<Option<Chunk<'a>>, ImageError> {
    if rest.is_empty() {
        return Ok(None);
    }
    let cut = || truncated("it ends within a chunk");
    let (length, after) = rest.split_first_chunk::<4>().ok_or_else(cut)?;
    let (kind, after) = after.split_first_chunk::<4>().ok_or_else(cut)?;
    let length = u32::from_be_bytes(*length) as usize;
    let data = after.get(..length).ok_or_else(cut)?;
    *rest = after.get(length + 4..).ok_or_else(cut)?;
    Ok(Some((*kind, data)))
}

pub(super) fn truncated(what: &'static str) -> ImageError {
    ImageError::Truncated { format: Format::Png, what }
}

pub(super) fn undecodable(what: &'static str) -> ImageError {
    ImageError::Undecodable { format: Format::Png, what }
}
