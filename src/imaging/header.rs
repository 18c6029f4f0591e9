//! The look at an image's first bytes that decides whether it may be decoded at all.

use std::fmt;

use super::{
    error::ImageError,
    exif::Orientation,
    jpeg_stream::{self, JpegHead},
    png_chunks::{self, PngHead, Samples},
};

/// What an image may cost, checked against its header before anything is allocated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Columns times rows of the image as stored. 24 megapixels unless set.
    pub max_pixels: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_pixels: 24_000_000 }
    }
}

impl Limits {
    /// Refuses dimensions whose product is above the limit.
    pub(super) fn check(self, width: u32, height: u32) -> Result<(), ImageError> {
        let pixels = u64::from(width) * u64::from(height);
        let limit = self.max_pixels;
        if pixels > limit {
            return Err(ImageError::TooLarge { width, height, pixels, limit });
        }
        Ok(())
    }
}

/// The formats that are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Baseline, extended sequential or progressive JPEG with 8 bits a sample.
    Jpeg,
    /// PNG with up to 8 bits a sample, one frame.
    Png,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
        })
    }
}

/// What the header says of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The format, from the bytes and never from a content type.
    pub format: Format,
    /// Columns as stored, before any orientation is applied; never 0.
    pub width: u32,
    /// Rows as stored, before any orientation is applied; never 0.
    pub height: u32,
}

/// Reads an image's header and refuses what can be refused by it: no image, another format, more
/// pixels than allowed, a kind that no preprocessing accepts (CMYK, 16 bits, animation).
///
/// Only walks over the bytes given: nothing is allocated from what the header claims, so a bomb
/// costs microseconds. That `inspect` succeeds does not mean that the image can be decoded.
///
/// # Errors
/// Every [`ImageError`] may be returned.
pub fn inspect(bytes: &[u8], limits: &Limits) -> Result<Header, ImageError> {
    let source = Source::read(bytes, *limits)?;
    let (width, height) = source.size();
    Ok(Header { format: source.format(), width, height })
}

/// A recognised image whose structure up to its first pixel has been checked.
#[derive(Debug)]
pub(super) enum Source<'a> {
    Jpeg(JpegHead<'a>),
    Png(PngHead<'a>),
}

impl<'a> Source<'a> {
    pub(super) fn read(bytes: &'a [u8], limits: Limits) -> Result<Self, ImageError> {
        if bytes.is_empty() {
            return Err(ImageError::Empty);
        }
        if bytes.starts_with(jpeg_stream::MAGIC) {
            return Ok(Self::Jpeg(JpegHead::read(bytes, limits)?));
        }
        if bytes.starts_with(png_chunks::MAGIC) {
            return Ok(Self::Png(PngHead::read(bytes, limits)?));
        }
        Err(ImageError::UnknownFormat { looks_like: looks_like(bytes) })
    }

    pub(super) fn format(&self) -> Format {
        match self {
            Self::Jpeg(_) => Format::Jpeg,
            Self::Png(_) => Format::Png,
        }
    }

    /// Columns and rows as stored.
    pub(super) fn size(&self) -> (u32, u32) {
        match self {
            Self::Jpeg(head) => (head.width, head.height),
            Self::Png(head) => (head.width, head.height),
        }
    }

    /// Whether its pixels have one level each, whatever is in the file beside them.
    pub(super) fn is_grey(&self) -> bool {
        match self {
            Self::Jpeg(head) => head.is_grey(),
            Self::Png(head) => matches!(head.samples, Samples::Grey | Samples::GreyAlpha),
        }
    }

    pub(super) fn orientation(&self) -> Orientation {
        let exif = match self {
            Self::Jpeg(head) => head.exif,
            Self::Png(head) => head.exif,
        };
        exif.map_or(Orientation::UPRIGHT, Orientation::from_exif)
    }
}

/// Names what was sent instead, so that the message helps. Never decides anything.
fn looks_like(bytes: &[u8]) -> &'static str {
    const KNOWN: &[(usize, &[u8], &str)] = &[
        (0, b"GIF8", "a GIF"),
        (8, b"WEBP", "a WebP"),
        (0, b"BM", "a BMP"),
        (0, b"II*\0", "a TIFF"),
        (0, b"MM\0*", "a TIFF"),
        (4, b"ftypavif", "an AVIF"),
        (4, b"ftyphei", "a HEIC"),
        (4, b"ftypmif1", "a HEIC"),
        (4, b"jP  ", "a JPEG 2000"),
        (0, b"%PDF", "a PDF"),
        (0, b"PK\x03\x04", "a ZIP archive"),
        (0, b"\x1f\x8b", "gzip data"),
        (0, b"{", "JSON text"),
        (0, b"[", "JSON text"),
        (0, b"<", "HTML or XML text"),
        (0, b"/9j/", "a JPEG in base64, which only the JSON body takes"),
        (0, b"iVBORw0KGgo", "a PNG in base64, which only the JSON body takes"),
        (0, b"data:", "a data URL, which is not taken: send the bytes"),
        (0, b"\xff\xd8", "a JPEG broken after its first two bytes"),
        (0, b"\x89PNG", "a PNG whose line ends were changed in transfer"),
    ];
    let found = KNOWN
        .iter()
        .find(|(at, magic, _)| bytes.get(*at..).is_some_and(|rest| rest.starts_with(magic)));
    found.map_or("something else", |(_, _, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_image_is_named() {
        let cases: &[(&[u8], &str, &str)] = &[
            (b"", "image_unreadable", "empty"),
            (b"x", "image_format", "something else"),
            (b"GIF89a...", "image_format", "GIF"),
            (b"<html>", "image_format", "HTML"),
            (b"RIFF\0\0\0\0WEBPVP8 ", "image_format", "WebP"),
            (b"\xff\xd8", "image_format", "JPEG broken"),
            (b"\x89PNG\n\x1a\n", "image_format", "line ends"),
            (b"\xff\xd8\xff", "image_unreadable", "JPEG"),
            (b"\x89PNG\r\n\x1a\n", "image_unreadable", "PNG"),
        ];
        for (bytes, code, word) in cases {
            let error = inspect(bytes, &Limits::default()).unwrap_err();
            assert_eq!(error.code(), *code, "{error}");
            assert!(error.to_string().contains(word), "{error}");
        }
    }
}
