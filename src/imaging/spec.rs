//! The `[preprocess]` table of a package as it is written, before it is checked.

use serde::Deserialize;

/// Mirrors the table key by key; unknown keys are errors. [`super::Preprocess`] is what is meant.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreprocessSpec {
    /// Channels the model takes, and their order.
    pub colour: Colour,
    /// Order of the dimensions of a batch.
    pub layout: Layout,
    /// Element type of the model's input.
    #[serde(default)]
    pub dtype: DType,
    /// How much of a JPEG is decoded.
    #[serde(default)]
    pub decode: Decode,
    /// How every image is brought to one size.
    pub resize: ResizeSpec,
    /// What is cut out after the resize.
    #[serde(default)]
    pub crop: Crop,
    /// Multiplies each value of 0 to 255 before mean and standard deviation apply.
    pub scale: f64,
    /// Subtracted after `scale`; one number a channel, in the order of `colour`.
    pub mean: Vec<f64>,
    /// Divides what is left; one number a channel, in the order of `colour`.
    pub std: Vec<f64>,
    /// Whether the camera's note on how it was held is followed.
    #[serde(default)]
    pub orientation: OrientationSource,
    /// What happens to images with transparency.
    #[serde(default)]
    pub alpha: Alpha,
}

/// Channels and their order. Grey and palette images are expanded to colour; colour is reduced to
/// grey by ITU-R 601 luma, as Pillow's `convert("L")` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Colour {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
    /// One channel of luma.
    Grey,
}

impl Colour {
    /// How many channels there are: 3 or 1.
    #[must_use]
    pub fn channels(self) -> u8 {
        match self {
            Self::Rgb | Self::Bgr => 3,
            Self::Grey => 1,
        }
    }
}

/// Order of the dimensions of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
pub enum Layout {
    /// Channel by channel.
    #[serde(rename = "NCHW")]
    Nchw,
    /// Pixel by pixel.
    #[serde(rename = "NHWC")]
    Nhwc,
}

/// Element type of the model's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DType {
    /// 32-bit floating point.
    #[default]
    F32,
}

/// How much of a JPEG is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decode {
    /// Every pixel.
    #[default]
    Full,
    /// A half, a quarter or an eighth of the columns and rows, straight from the DCT: the fewest that
    /// are not fewer than the resize makes. This is Pillow's `draft(None, size)` before
    /// `resize(size)`; it costs less and changes pixels.
    Scaled,
}

/// How every image is brought to one size.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResizeSpec {
    /// What becomes of the proportions.
    pub mode: ResizeMode,
    /// `[height, width]` in pixels; for `shortest` the length of the shorter side.
    pub size: OneOrMore<u32>,
    /// The interpolation.
    pub filter: Filter,
    /// Whether the filter widens when shrinking, as Pillow's do. `nearest` never does.
    #[serde(default)]
    pub antialias: Option<bool>,
    /// Letterbox only, and required there: what the margins are filled with, 0 to 255; one number,
    /// or one a channel in the order of `colour`.
    #[serde(default)]
    pub fill: Option<OneOrMore<u8>>,
}

/// What becomes of an image's proportions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResizeMode {
    /// Given up: the image is stretched to the size.
    Stretch,
    /// Kept: the shorter side gets the length, and a crop makes the size.
    Shortest,
    /// Kept: the whole image fits into the size, centred, with margins.
    Letterbox,
}

/// The interpolation; each is Pillow's of that name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filter {
    /// The nearest pixel.
    Nearest,
    /// Triangle.
    Bilinear,
    /// Cubic with a = -0.5.
    Bicubic,
    /// Lanczos with three lobes.
    Lanczos,
}

/// What is cut out after the resize.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Crop {
    /// Nothing.
    #[default]
    None,
    /// `[height, width]` around the centre, placed as torchvision's `CenterCrop` does.
    Centre([u32; 2]),
}

/// Whether the camera's note on how it was held is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OrientationSource {
    /// Pixels are turned upright by the EXIF tag.
    #[default]
    Exif,
    /// Pixels are taken as stored.
    Ignore,
}

/// What happens to images with transparency: an alpha channel or a transparent colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Alpha {
    /// Refused, even where every pixel is opaque.
    #[default]
    Refuse,
    /// The transparency is ignored and the colours beneath are used, as `convert("RGB")` does.
    Drop,
}

/// One number, or a list of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(untagged)]
pub enum OneOrMore<T> {
    /// A bare number.
    One(T),
    /// A list, which may hold any number of them.
    More(Vec<T>),
}

impl<T> OneOrMore<T> {
    /// The numbers; a bare one is a list of one.
    #[must_use]
    pub fn as_slice(&self) -> &[T] {
        match self {
            Self::One(it) => std::slice::from_ref(it),
            Self::More(all) => all,
        }
    }
}
