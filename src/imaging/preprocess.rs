//! A package's preprocessing, checked, and the normalisation of pixels into a row of a batch.

use thiserror::Error;

use super::{
    geometry::{Size, Target},
    spec::{
        Alpha, Colour, Crop, Decode, Filter, Layout, OneOrMore, OrientationSource, PreprocessSpec,
        ResizeMode, ResizeSpec,
    },
    workspace::Pixels,
};

/// The longest side a model's input may have. Four times what any vision model in the field takes;
/// it keeps every output below the default limit on pixels.
const MAX_SIDE: u32 = 4096;

/// One thing wrong with a `[preprocess]` table.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("preprocess.{key}: {problem}")]
pub struct PreprocessError {
    /// The key, such as `resize.size`.
    pub key: &'static str,
    /// What is wrong, and what would be right.
    pub problem: String,
}

/// How images become a model's input. Immutable; shared by all threads.
#[derive(Debug, Clone, PartialEq)]
pub struct Preprocess {
    target: Target,
    filter: Filter,
    colour: Colour,
    layout: Layout,
    decode: Decode,
    alpha: Alpha,
    orientation: OrientationSource,
    /// One byte a channel, for the margins of a letterbox.
    fill: Vec<u8>,
    /// For each channel, what each value of 0 to 255 becomes. Always finite.
    levels: Vec<[f32; 256]>,
}

impl Preprocess {
    /// Checks a table.
    ///
    /// # Errors
    /// Every complaint there is, not only the first; each names its key.
    pub fn from_spec(spec: PreprocessSpec) -> Result<Self, Vec<PreprocessError>> {
        let mut complaints = Complaints::default();
        let target = check_target(&spec.resize, spec.crop, &mut complaints);
        check_filter(&spec.resize, &mut complaints);
        let fill = check_fill(&spec, &mut complaints);
        let levels = check_levels(&spec, &mut complaints);
        let PreprocessSpec { colour, layout, decode, orientation, alpha, resize, .. } = spec;
        match (target, complaints.0) {
            (Some(target), complaints) if complaints.is_empty() => Ok(Self {
                target,
                filter: resize.filter,
                colour,
                layout,
                decode,
                alpha,
                orientation,
                fill,
                levels,
            }),
            (_, complaints) => Err(complaints),
        }
    }

    /// Channels and their order.
    #[must_use]
    pub fn colour(&self) -> Colour {
        self.colour
    }

    /// Order of the dimensions.
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The shape of one row without its batch dimension: channels, height, width, or for NHWC
    /// height, width, channels.
    #[must_use]
    pub fn output_shape(&self) -> [usize; 3] {
        let Size { width, height } = self.target.output();
        let (width, height) = (width as usize, height as usize);
        let channels = usize::from(self.colour.channels());
        match self.layout {
            Layout::Nchw => [channels, height, width],
            Layout::Nhwc => [height, width, channels],
        }
    }

    /// How many values a row has: the product of [`Self::output_shape`].
    #[must_use]
    pub fn row_len(&self) -> usize {
        self.output_shape().iter().product()
    }

    /// Normalises `pixels` into one row of a batch: each value becomes
    /// `(value * scale - mean) / std`, computed in f64 and rounded once. A grey picture's one
    /// channel is written to every channel of the model.
    ///
    /// # Panics
    /// If `row` is not [`Self::row_len`] long, or `pixels` were made by other preprocessing.
    pub fn write_row(&self, pixels: &Pixels, row: &mut [f32]) {
        assert_eq!(row.len(), self.row_len(), "a row has room for exactly one image");
        let (data, stride) = (pixels.data(), usize::from(pixels.channels));
        let n_pixels = row.len() / self.levels.len();
        assert_eq!(data.len(), n_pixels * stride, "pixels come from the same preprocessing");
        match (self.layout, self.levels.len()) {
            (Layout::Nchw, _) | (Layout::Nhwc, 1) => {
                let planes = row.chunks_exact_mut(n_pixels).zip(&self.levels);
                for (channel, (plane, levels)) in planes.enumerate() {
                    match stride {
                        1 => write_plane(plane, levels, data.iter()),
                        _three => {
                            write_plane(plane, levels, data.iter().skip(channel).step_by(stride));
                        }
                    }
                }
            }
            (Layout::Nhwc, channels) => {
                let pixels = data.chunks_exact(stride);
                for (to, from) in row.chunks_exact_mut(channels).zip(pixels) {
                    let from = from.iter().cycle();
                    for ((value, &level), levels) in to.iter_mut().zip(from).zip(&self.levels) {
                        *value = levels[usize::from(level)];
                    }
                }
            }
        }
    }

    pub(super) fn decode(&self) -> Decode {
        self.decode
    }

    pub(super) fn target(&self) -> Target {
        self.target
    }

    pub(super) fn filter(&self) -> Filter {
        self.filter
    }

    pub(super) fn fill(&self) -> &[u8] {
        &self.fill
    }

    /// Whether a grey image stays grey: where there are no margins, or none of another colour.
    pub(super) fn has_grey_margins(&self) -> bool {
        self.fill.iter().all(|it| *it == self.fill[0])
    }

    pub(super) fn follows_exif(&self) -> bool {
        self.orientation == OrientationSource::Exif
    }

    pub(super) fn refuses_alpha(&self) -> bool {
        self.alpha == Alpha::Refuse
    }
}

fn write_plane<'a>(plane: &mut [f32], levels: &[f32; 256], data: impl Iterator<Item = &'a u8>) {
    for (value, &level) in plane.iter_mut().zip(data) {
        *value = levels[usize::from(level)];
    }
}

#[derive(Default)]
struct Complaints(Vec<PreprocessError>);

impl Complaints {
    fn add(&mut self, key: &'static str, problem: impl Into<String>) {
        self.0.push(PreprocessError { key, problem: problem.into() });
    }
}

fn check_target(resize: &ResizeSpec, crop: Crop, complaints: &mut Complaints) -> Option<Target> {
    let mode = resize.mode;
    let size = match (mode, resize.size.as_slice()) {
        (ResizeMode::Shortest, &[side]) => Size { width: side, height: side },
        (ResizeMode::Shortest, _) => {
            complaints.add("resize.size", "mode \"shortest\" takes one number, such as 256");
            return None;
        }
        (ResizeMode::Stretch | ResizeMode::Letterbox, &[height, width]) => Size { width, height },
        (ResizeMode::Stretch | ResizeMode::Letterbox, _) => {
            complaints.add("resize.size", "takes [height, width], such as [224, 224]");
            return None;
        }
    };
    let fits = |it: u32| (1..=MAX_SIDE).contains(&it);
    if !(fits(size.width) && fits(size.height)) {
        complaints.add("resize.size", format!("each side must be 1 to {MAX_SIDE}"));
    }
    match (mode, crop) {
        (ResizeMode::Shortest, Crop::None) => complaints.add(
            "crop",
            "mode \"shortest\" gives images of many sizes; add { centre = [height, width] }",
        ),
        (ResizeMode::Letterbox, Crop::Centre(_)) => {
            complaints.add("crop", "a letterbox already has its size; use \"none\"");
        }
        (ResizeMode::Stretch | ResizeMode::Shortest, Crop::Centre([height, width])) => {
            if height == 0 || width == 0 || height > size.height || width > size.width {
                complaints.add("crop", "each side must be 1 to that of resize.size");
            }
        }
        (ResizeMode::Stretch | ResizeMode::Letterbox, Crop::None) => {}
    }
    Some(Target { mode, size, crop })
}

fn check_filter(resize: &ResizeSpec, complaints: &mut Complaints) {
    match (resize.filter, resize.antialias) {
        (Filter::Nearest, Some(true)) => {
            complaints.add("resize.antialias", "filter \"nearest\" has none; use false");
        }
        (Filter::Bilinear | Filter::Bicubic | Filter::Lanczos, Some(false)) => complaints.add(
            "resize.antialias",
            "false is only available with filter \"nearest\"; train with Pillow's resize, or with \
             torchvision's antialias=True",
        ),
        (Filter::Nearest, _) | (Filter::Bilinear | Filter::Bicubic | Filter::Lanczos, _) => {}
    }
}

fn check_fill(spec: &PreprocessSpec, complaints: &mut Complaints) -> Vec<u8> {
    let channels = usize::from(spec.colour.channels());
    let fill = spec.resize.fill.as_ref().map(OneOrMore::as_slice);
    match (spec.resize.mode, fill) {
        (ResizeMode::Letterbox, Some(&[grey])) => return vec![grey; channels],
        (ResizeMode::Letterbox, Some(all)) if all.len() == channels => return all.to_vec(),
        (ResizeMode::Letterbox, _) => complaints.add(
            "resize.fill",
            format!("mode \"letterbox\" needs one number of 0 to 255, or {channels} of them"),
        ),
        (ResizeMode::Stretch | ResizeMode::Shortest, Some(_)) => {
            complaints.add("resize.fill", "only mode \"letterbox\" has margins to fill");
        }
        (ResizeMode::Stretch | ResizeMode::Shortest, None) => {}
    }
    vec![0; channels]
}

fn check_levels(spec: &PreprocessSpec, complaints: &mut Complaints) -> Vec<[f32; 256]> {
    let before = complaints.0.len();
    let channels = usize::from(spec.colour.channels());
    if !(spec.scale.is_finite() && spec.scale > 0.0) {
        complaints.add("scale", "must be a number above 0, such as 0.00392156862745098 (1/255)");
    }
    for (key, list) in [("mean", &spec.mean), ("std", &spec.std)] {
        if list.len() != channels {
            let n = list.len();
            complaints.add(key, format!("has {n} numbers, the colour has {channels} channels"));
        }
    }
    if !spec.mean.iter().all(|it| it.is_finite()) {
        complaints.add("mean", "must be finite");
    }
    if !spec.std.iter().all(|it| it.is_finite() && *it > 0.0) {
        complaints.add("std", "must be above 0");
    }
    if complaints.0.len() > before {
        return Vec::new();
    }
    let levels: Vec<[f32; 256]> = spec
        .mean
        .iter()
        .zip(&spec.std)
        .map(|(mean, std)| {
            let mut value = 0.0;
            [(); 256].map(|()| {
                let level = (value * spec.scale - mean) / std;
                value += 1.0;
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "rounding to the model's type is the point; infinities are refused"
                )]
                let level = level as f32;
                level
            })
        })
        .collect();
    if !levels.iter().flatten().all(|it| it.is_finite()) {
        complaints.add("std", "is so small that values overflow");
    }
    levels
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        colour = "rgb"
        layout = "NCHW"
        dtype = "f32"
        decode = "full"
        resize = { mode = "stretch", size = [2, 1], filter = "bilinear", antialias = true }
        crop = "none"
        scale = 0.00392156862745098
        mean = [0.485, 0.456, 0.406]
        std = [0.229, 0.224, 0.225]
        orientation = "exif"
    "#;

    fn read(table: &str) -> Result<Preprocess, Vec<PreprocessError>> {
        Preprocess::from_spec(toml::from_str(table).unwrap())
    }

    fn keys(table: &str) -> Vec<&'static str> {
        read(table).unwrap_err().iter().map(|it| it.key).collect()
    }

    #[test]
    fn each_contradiction_is_named_by_its_key() {
        let resize =
            "{ mode = \"stretch\", size = [2, 1], filter = \"bilinear\", antialias = true }";
        let cases: &[(&str, &str, &[&str])] = &[
            ("[2, 1]", "224", &["resize.size"]),
            ("[2, 1]", "[0, 1]", &["resize.size"]),
            ("[2, 1]", "[5000, 1]", &["resize.size"]),
            ("antialias = true", "antialias = false", &["resize.antialias"]),
            ("\"bilinear\"", "\"nearest\"", &["resize.antialias"]),
            ("antialias = true", "fill = 3", &["resize.fill"]),
            ("stretch", "letterbox", &["resize.fill"]),
            ("\"stretch\", size = [2, 1]", "\"shortest\", size = 8", &["crop"]),
            ("\"none\"", "{ centre = [3, 1] }", &["crop"]),
            ("0.00392156862745098", "0.0", &["scale"]),
            ("0.00392156862745098", "nan", &["scale"]),
            ("[0.485, 0.456, 0.406]", "[0.485]", &["mean"]),
            ("[0.229, 0.224, 0.225]", "[0.229, 0.0, 0.225]", &["std"]),
            ("[0.229, 0.224, 0.225]", "[1e-300, 1, 1]", &["std"]),
            ("\"rgb\"", "\"grey\"", &["mean", "std"]),
            (
                resize,
                "{ mode = \"letterbox\", size = 9, filter = \"nearest\" }",
                &["resize.size", "resize.fill"],
            ),
        ];
        assert!(read(GOOD).is_ok());
        for (from, to, expected) in cases {
            assert!(GOOD.contains(from), "{from}");
            assert_eq!(keys(&GOOD.replace(from, to)), *expected, "{to}");
        }
        assert!(toml::from_str::<PreprocessSpec>(&format!("{GOOD}\ncolor = \"rgb\"")).is_err());
    }

    #[test]
    fn rows_are_normalised_in_the_layout_of_the_model() {
        let table = GOOD
            .replace("0.00392156862745098", "0.5")
            .replace("[0.485, 0.456, 0.406]", "[1, 2, 3]")
            .replace("[0.229, 0.224, 0.225]", "[1, 2, 4]");
        let pixels = Pixels::new(1, 2, 3, vec![2, 4, 6, 20, 40, 60]);
        let cases = [
            ("NCHW", [3, 2, 1], [0.0, 9.0, 0.0, 9.0, 0.0, 6.75]),
            ("NHWC", [2, 1, 3], [0.0, 0.0, 0.0, 9.0, 9.0, 6.75]),
        ];
        for (layout, shape, expected) in cases {
            let preprocess = read(&table.replace("NCHW", layout)).unwrap();
            assert_eq!(preprocess.output_shape(), shape);
            let mut row = vec![0.0; preprocess.row_len()];
            preprocess.write_row(&pixels, &mut row);
            assert_eq!(row, expected, "{layout}");
        }
    }

    #[test]
    fn a_grey_picture_is_written_to_every_channel() {
        let grey = Pixels::new(1, 2, 1, vec![7, 200]);
        let same = Pixels::new(1, 2, 3, vec![7, 7, 7, 200, 200, 200]);
        for layout in ["NCHW", "NHWC"] {
            let preprocess = read(&GOOD.replace("NCHW", layout)).unwrap();
            let [one, three] = [&grey, &same].map(|it| {
                let mut row = vec![f32::NAN; preprocess.row_len()];
                preprocess.write_row(it, &mut row);
                row
            });
            assert_eq!(one, three, "{layout}");
        }
    }
}
