//! Walks over a JPEG's markers without decoding: the header, and whether every scan is there.
//!
//! libjpeg answers a whole picture, without a warning, from a progressive file that was cut between
//! two scans and closed with an end marker: it is blurred, or lacks a colour. An image of which a
//! part is missing must not be judged, so completeness is checked here, before anything is decoded.

use super::{
    error::ImageError,
    header::{Format, Limits},
};

/// Start of image, and the first byte of the next marker.
pub(super) const MAGIC: &[u8] = b"\xff\xd8\xff";

const SOS: u8 = 0xda;
const EOI: u8 = 0xd9;
const APP1: u8 = 0xe1;
/// Coefficients in a block.
const BLOCK: usize = 64;
/// Marks a coefficient of which no scan has sent a bit.
const NEVER_SENT: u8 = 0xff;

/// What is read before the first scan.
#[derive(Debug)]
pub(super) struct JpegHead<'a> {
    pub(super) width: u32,
    pub(super) height: u32,
    /// The TIFF block of the first EXIF segment.
    pub(super) exif: Option<&'a [u8]>,
    /// Component identifiers: one (grey) or three (colour).
    components: Vec<u8>,
    /// Where the first scan's marker code is.
    scans_at: usize,
}

impl<'a> JpegHead<'a> {
    /// Reads up to the first scan. The size is checked the moment it is known.
    pub(super) fn read(bytes: &'a [u8], limits: Limits) -> Result<Self, ImageError> {
        let mut markers = Markers { bytes, at: 2 };
        let mut frame = None;
        let mut exif = None;
        loop {
            let code_at = markers.next_marker()?;
            match bytes[code_at] {
                0xc0..=0xc2 => {
                    let found = Frame::parse(markers.segment()?, limits)?;
                    if frame.replace(found).is_some() {
                        return Err(undecodable("it has more than one frame header"));
                    }
                }
                0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => {
                    return Err(ImageError::Unsupported {
                        what: "a lossless, hierarchical or arithmetic-coded JPEG",
                        instead: "send a baseline or progressive JPEG, or a PNG",
                    });
                }
                SOS => break,
                EOI => return Err(truncated("it ends before its first scan")),
                0xd8 => return Err(undecodable("it starts twice")),
                // Markers without a segment; libjpeg passes over them, too.
                0x01 | 0xd0..=0xd7 => {}
                code => {
                    let tiff = markers.segment()?.strip_prefix(b"Exif\0\0");
                    exif = exif.or(tiff.filter(|_| code == APP1));
                }
            }
        }
        let Some(Frame { width, height, components }) = frame else {
            return Err(undecodable("its first scan comes before its frame header"));
        };
        Ok(Self { width, height, exif, components, scans_at: markers.at - 1 })
    }

    /// Whether the picture is grey: one component.
    pub(super) fn is_grey(&self) -> bool {
        self.components.len() == 1
    }

    /// Checks that the scans, up to the end marker, send every bit of every coefficient, and that
    /// there are not more than `max_scans`. (The standard lets an encoder leave some out. None in
    /// use does, and such a file cannot be told from a cut one.)
    pub(super) fn check_scans(&self, bytes: &[u8], max_scans: usize) -> Result<(), ImageError> {
        let mut markers = Markers { bytes, at: self.scans_at + 1 };
        let mut lowest_bit = vec![[NEVER_SENT; BLOCK]; self.components.len()];
        let mut code = SOS;
        let mut n_scans = 0;
        loop {
            match code {
                SOS => {
                    n_scans += 1;
                    if n_scans > max_scans {
                        return Err(undecodable("it has more scans than any encoder writes"));
                    }
                    self.note_scan(markers.segment()?, &mut lowest_bit)?;
                    markers.skip_entropy_coded()?;
                }
                EOI => break,
                0xd8 => return Err(undecodable("it starts twice")),
                0x01 | 0xd0..=0xd7 => {}
                _tables_or_comment => {
                    markers.segment()?;
                }
            }
            code = bytes[markers.next_marker()?];
        }
        if lowest_bit.iter().flatten().any(|&it| it != 0) {
            return Err(truncated("it ends before its last scan"));
        }
        Ok(())
    }

    /// Records which bits of which coefficients a scan sends.
    fn note_scan(&self, header: &[u8], lowest: &mut [[u8; BLOCK]]) -> Result<(), ImageError> {
        let malformed = || undecodable("the header of a scan is malformed");
        let (&n, rest) = header.split_first().ok_or_else(malformed)?;
        let n = usize::from(n);
        if rest.len() != 2 * n + 3 {
            return Err(malformed());
        }
        let (first, last, bits) = (rest[2 * n], rest[2 * n + 1], rest[2 * n + 2]);
        let band = usize::from(first)..usize::from(last) + 1;
        if band.is_empty() || band.end > BLOCK {
            return Err(malformed());
        }
        for selector in rest[..2 * n].chunks_exact(2) {
            let at = self.components.iter().position(|&id| id == selector[0]);
            lowest[at.ok_or_else(malformed)?][band.clone()].fill(bits & 0x0f);
        }
        Ok(())
    }
}

/// What a frame header (SOF0, SOF1, SOF2) says.
struct Frame {
    width: u32,
    height: u32,
    components: Vec<u8>,
}

impl Frame {
    fn parse(segment: &[u8], limits: Limits) -> Result<Self, ImageError> {
        let malformed = || undecodable("its frame header is malformed");
        let [precision, h0, h1, w0, w1, n, rest @ ..] = segment else { return Err(malformed()) };
        let height = u32::from(u16::from_be_bytes([*h0, *h1]));
        let width = u32::from(u16::from_be_bytes([*w0, *w1]));
        if width == 0 || height == 0 {
            return Err(undecodable("it has no rows or no columns"));
        }
        limits.check(width, height)?;
        if *precision != 8 {
            return Err(ImageError::Unsupported {
                what: "a JPEG with more than 8 bits a sample",
                instead: "send 8 bits a sample",
            });
        }
        if rest.len() != 3 * usize::from(*n) {
            return Err(malformed());
        }
        match n {
            1 | 3 => {}
            4 => {
                return Err(ImageError::Unsupported {
                    what: "a CMYK or YCCK JPEG",
                    instead: "convert it to RGB, whose colours do not depend on a printer",
                });
            }
            _other => {
                return Err(ImageError::Unsupported {
                    what: "a JPEG that is neither grey nor in three colours",
                    instead: "send a grey or RGB image",
                });
            }
        }
        let components: Vec<u8> = rest.chunks_exact(3).map(|it| it[0]).collect();
        Ok(Self { width, height, components })
    }
}

/// A place in the stream of markers.
struct Markers<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Markers<'a> {
    /// Steps over a marker and returns where its code is. Junk between segments is refused.
    fn next_marker(&mut self) -> Result<usize, ImageError> {
        let end = || truncated("its end marker is missing");
        if *self.bytes.get(self.at).ok_or_else(end)? != 0xff {
            return Err(undecodable("there is junk between its segments"));
        }
        // A marker may be preceded by any number of fill bytes.
        while *self.bytes.get(self.at).ok_or_else(end)? == 0xff {
            self.at += 1;
        }
        if self.bytes[self.at] == 0 {
            return Err(undecodable("there is junk between its segments"));
        }
        self.at += 1;
        Ok(self.at - 1)
    }

    /// Steps over the segment that follows a marker and returns it without its length.
    fn segment(&mut self) -> Result<&'a [u8], ImageError> {
        let cut = || truncated("it ends within a segment");
        let rest = self.bytes.get(self.at..).ok_or_else(cut)?;
        let [l0, l1, ..] = rest else { return Err(cut()) };
        let length = usize::from(u16::from_be_bytes([*l0, *l1]));
        if length < 2 {
            return Err(undecodable("the length of a segment is less than 2"));
        }
        self.at += length;
        rest.get(2..length).ok_or_else(cut)
    }

    /// Steps over a scan's data to the marker that ends it.
    fn skip_entropy_coded(&mut self) -> Result<(), ImageError> {
        while let Some(step) = self.bytes[self.at..].iter().position(|&it| it == 0xff) {
            self.at += step;
            match self.bytes.get(self.at + 1) {
                // A stuffed 0xff, or a restart marker.
                Some(0 | 0xd0..=0xd7) => self.at += 2,
                Some(0xff) => self.at += 1,
                Some(_marker) => return Ok(()),
                None => break,
            }
        }
        Err(truncated("its end marker is missing"))
    }
}

fn truncated(what: &'static str) -> ImageError {
    ImageError::Truncated { format: Format::Jpeg, what }
}

fn undecodable(what: &'static str) -> ImageError {
    ImageError::Undecodable { format: Format::Jpeg, what }
}
