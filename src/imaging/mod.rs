//! Bytes in, pixels and tensor rows out: everything between a compressed image and a model's input.
//!
//! What comes out is what Pillow's and torchvision's pipelines make of the same bytes, since that is
//! what models are trained with: JPEG is decoded by libjpeg-turbo (bit-identical to Pillow, in full or
//! reduced as by its `draft`), resized in Pillow's order (at most one level apart), cropped and rounded
//! as torchvision does. A grey picture goes this way in one channel, whatever the model takes.
//!
//! The order is fixed: [`inspect`] the header against [`Limits`], decode in the channel order the
//! model wants, turn upright, resize, crop ([`Workspace::prepare`]); then normalise into a row of a
//! batch ([`Preprocess::write_row`]). [`Preprocess`] is made from a package's `[preprocess]` table
//! and cannot hold settings that contradict each other.
//!
//! Promises, for any bytes whatever: no panic reaches the caller; nothing is allocated that the
//! header check has not allowed; an image of which a part is missing is refused, never filled up;
//! kinds that would need a guess (alpha, 16 bits, CMYK, animation) are refused by name. A flipped
//! bit inside a scan may go unseen: no JPEG decoder can rule that out.
//!
//! Not here: no I/O, no threads, no globals. Colour profiles and gamma are ignored, as in Pillow;
//! an orientation given only in XMP is, too.

mod decode;
mod error;
mod exif;
mod geometry;
mod header;
mod jpeg_stream;
mod orient;
mod png_chunks;
mod preprocess;
mod reference;
mod resize;
mod spec;
mod workspace;

pub use error::ImageError;
pub use header::{Format, Header, Limits, inspect};
pub use preprocess::{Preprocess, PreprocessError};
pub use reference::{Difference, Reference};
pub use spec::{
    Alpha, Colour, Crop, DType, Decode, Filter, Layout, OneOrMore, OrientationSource,
    PreprocessSpec, ResizeMode, ResizeSpec,
};
pub use workspace::{Pixels, Workspace};
