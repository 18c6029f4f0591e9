//! Our pixels against those Pillow makes of the same bytes under the same `[preprocess]` table.
//!
//! `tests/images/make.py` makes images and tensors into `target/test-images` with the Python named by
//! `LINESIGHT_TEST_PYTHON` (default `.venv/bin/python`, made from `tests/requirements.txt`).

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use linesight::imaging::{
    Filter, ImageError, Limits, Pixels, Preprocess, PreprocessSpec, Workspace, inspect,
};
use serde::Deserialize;

use crate::support::python::python;

/// What the golden samples of a package allow; see design, section 6.
const MAX_DIFFERENCE: u8 = 1;
const MAX_MEAN: f64 = 0.15;
/// What ours differ by in fact. Wider only for Lanczos, whose negative lobes add up two roundings.
const USUAL_MEAN: f64 = 0.005;
const MAX_DIFFERENCE_LANCZOS: u8 = 2;

/// The folder of test images, made once a process.
pub(crate) static IMAGES: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-images");
    let done = python().arg("tests/images/make.py").arg(&folder).output().unwrap();
    assert!(done.status.success(), "make.py: {}", String::from_utf8_lossy(&done.stderr));
    folder
});

#[derive(Deserialize)]
struct Case {
    image: String,
    spec: PreprocessSpec,
    /// The file of expected bytes, or nothing where the image must be refused.
    tensor: Option<String>,
    #[serde(default)]
    exact: bool,
    code: Option<String>,
}

fn cases() -> Vec<Case> {
    let text = fs::read(IMAGES.join("manifest.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

fn prepare(workspace: &mut Workspace, case: &Case) -> Result<Pixels, ImageError> {
    let bytes = fs::read(IMAGES.join(&case.image)).unwrap();
    let preprocess = Preprocess::from_spec(case.spec.clone()).unwrap();
    workspace.prepare(&bytes, &preprocess, &Limits::default())
}

#[test]
fn pixels_are_those_of_pillow() {
    // One workspace for all, and each buffer used again: no image may leave a trace in the next.
    let mut workspace = Workspace::new();
    let (mut complaints, mut worst_mean, mut n) = (Vec::new(), 0.0_f64, 0);
    for case in cases() {
        let Some(expected) = &case.tensor else { continue };
        n += 1;
        let PreprocessSpec { colour, resize, decode, .. } = &case.spec;
        let name = format!("{} under {colour:?} {decode:?} {resize:?}", case.image);
        let pixels = match prepare(&mut workspace, &case) {
            Ok(pixels) => pixels,
            Err(error) => {
                complaints.push(format!("{name}: {error}"));
                continue;
            }
        };
        let expected = fs::read(IMAGES.join(expected)).unwrap();
        let (max, mean) = difference(&in_channels_of(&case.spec, &pixels), &expected);
        worst_mean = worst_mean.max(mean);
        let lanczos = case.spec.resize.filter == Filter::Lanczos;
        let allowed = match (case.exact, lanczos) {
            (true, _) => (0, 0.0),
            (false, true) => (MAX_DIFFERENCE_LANCZOS, MAX_MEAN),
            (false, false) => (MAX_DIFFERENCE, USUAL_MEAN),
        };
        if max > allowed.0 || mean > allowed.1 {
            complaints.push(format!("{name}: max {max}, mean {mean:.4}"));
        }
        workspace.reuse(pixels);
    }
    println!("{n} tensors compared, worst mean {worst_mean:.4}");
    assert!(complaints.is_empty(), "{n} tensors, bad:\n{}", complaints.join("\n"));
    assert!(n > 400, "only {n} tensors were compared");
}

#[test]
fn what_would_need_a_guess_is_refused_by_code() {
    let mut workspace = Workspace::new();
    let mut n = 0;
    for case in cases() {
        let Some(code) = &case.code else { continue };
        n += 1;
        match prepare(&mut workspace, &case) {
            Ok(_pixels) => panic!("{} was decoded", case.image),
            Err(error) => assert_eq!(error.code(), code, "{}: {error}", case.image),
        }
    }
    assert!(n > 20, "only {n} images were refused");
}

#[test]
fn the_header_alone_stops_what_is_too_large() {
    for name in ["bomb-65535.jpg", "bomb-50k.png"] {
        let bytes = fs::read(IMAGES.join(name)).unwrap();
        let error = inspect(&bytes, &Limits::default()).unwrap_err();
        assert!(matches!(error, ImageError::TooLarge { limit: 24_000_000, .. }), "{name}: {error}");
    }
    let bytes = fs::read(IMAGES.join("odd-420.jpg")).unwrap();
    let header = inspect(&bytes, &Limits { max_pixels: 1023 * 517 }).unwrap();
    assert_eq!((header.width, header.height), (1023, 517));
    assert!(inspect(&bytes, &Limits { max_pixels: 1023 * 517 - 1 }).is_err());
}

#[test]
fn a_grey_picture_comes_out_the_same_from_one_channel_as_from_three() {
    // Margins of another colour than grey need three channels; the pictures, being square, leave no
    // room for margins.
    let spec = |fill: &str, decode: &str, filter: &str, layout: &str| -> PreprocessSpec {
        let table = format!(
            r#"{{"colour": "bgr", "layout": "{layout}", "decode": "{decode}", "alpha": "drop",
            "resize": {{"mode": "letterbox", "size": [97, 97], "filter": "{filter}", "fill": {fill}}},
            "scale": 1, "mean": [1, 2, 3], "std": [1, 2, 3]}}"#
        );
        serde_json::from_str(&table).unwrap()
    };
    let mut workspace = Workspace::new();
    let mut row = |image: &str, spec: PreprocessSpec, channels: u8| {
        let bytes = fs::read(IMAGES.join(image)).unwrap();
        let preprocess = Preprocess::from_spec(spec).unwrap();
        let pixels = workspace.prepare(&bytes, &preprocess, &Limits::default()).unwrap();
        assert_eq!(pixels.channels, channels, "{image}");
        let mut row = vec![f32::NAN; preprocess.row_len()];
        preprocess.write_row(&pixels, &mut row);
        row
    };
    for image in ["grey.jpg", "grey-progressive.jpg", "grey.png", "interlaced-grey.png"] {
        for filter in ["nearest", "bilinear", "bicubic", "lanczos"] {
            for decode in ["full", "scaled"] {
                for layout in ["NCHW", "NHWC"] {
                    let one = row(image, spec("[0, 0, 0]", decode, filter, layout), 1);
                    let three = row(image, spec("[0, 0, 1]", decode, filter, layout), 3);
                    assert!(one == three, "{image}, {filter}, {decode}, {layout}");
                }
            }
        }
    }
}

/// As Pillow's tensors have them: a grey picture's one channel in every channel of the model.
pub(crate) fn in_channels_of(spec: &PreprocessSpec, pixels: &Pixels) -> Vec<u8> {
    let times = usize::from(spec.colour.channels() / pixels.channels);
    pixels.data().iter().flat_map(|it| std::iter::repeat_n(*it, times)).collect()
}

/// The largest and the mean difference.
fn difference(ours: &[u8], theirs: &[u8]) -> (u8, f64) {
    assert_eq!(ours.len(), theirs.len(), "sizes differ");
    let differences = || ours.iter().zip(theirs).map(|(a, b)| a.abs_diff(*b));
    let sum: f64 = differences().map(f64::from).sum();
    let n = f64::from(u32::try_from(ours.len()).unwrap());
    (differences().max().unwrap_or(0), sum / n)
}
