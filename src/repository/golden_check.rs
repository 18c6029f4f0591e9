//! Asks a version its golden samples, through the real path, before it serves.
//!
//! Two comparisons: the pixels after decoding and resizing against the reference pipeline's, which
//! catches a wrong resampler or channel order at its root; then scores and verdict as a client
//! would get them, which catches everything else.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;

use super::{golden::GoldenSample, manifest::Manifest};
use crate::{
    batch::{self, Bounds, ModelHandle},
    decide,
    imaging::{self, Limits, Pixels, Preprocess, Reference, Workspace},
    types::{Instant, NamedTensor, Tensor, Verdict},
};

/// Golden samples are not held to the budget: a slow machine is another complaint.
const PATIENCE: Duration = Duration::from_secs(600);

/// The pixels of every sample, compared with the reference; and what differs.
pub(super) fn pixels(
    samples: &[GoldenSample],
    manifest: &Manifest,
    preprocess: &Preprocess,
    limits: &Limits,
) -> (Vec<Pixels>, Vec<String>) {
    let mut workspace = Workspace::new();
    let (mut all, mut complaints) = (Vec::new(), Vec::new());
    for sample in samples {
        let name = &sample.name;
        let pixels = match workspace.prepare(&sample.image, preprocess, limits) {
            Ok(pixels) => pixels,
            Err(error) => {
                complaints.push(format!("{name}: {error}"));
                continue;
            }
        };
        if let Some(tensor) = &sample.tensor
            && let Err(complaint) = compare_pixels(tensor, &pixels, manifest, preprocess)
        {
            complaints.push(format!("{name}: {complaint}"));
        }
        all.push(pixels);
    }
    (all, complaints)
}

fn compare_pixels(
    tensor: &[u8],
    pixels: &Pixels,
    manifest: &Manifest,
    preprocess: &Preprocess,
) -> Result<(), String> {
    let reference = Reference::read_png(tensor, preprocess.colour())
        .map_err(|it| format!("its reference tensor: {it}"))?;
    let difference = reference.difference(pixels).ok_or("its reference tensor has another size")?;
    let allowed = manifest.tolerance;
    if difference.max > allowed.pixels_max || difference.mean > allowed.pixels_mean {
        return Err(format!(
            "pixels differ from the reference by up to {} levels, {:.3} in the mean; allowed are {} and {}",
            difference.max, difference.mean, allowed.pixels_max, allowed.pixels_mean
        ));
    }
    Ok(())
}

/// A sample's pixels as the row of a run.
pub(super) fn row(
    pixels: &Pixels,
    preprocess: &Preprocess,
    input: &Arc<str>,
) -> Option<NamedTensor> {
    let mut row = vec![0.0; preprocess.row_len()];
    preprocess.write_row(pixels, &mut row);
    let shape = std::iter::once(1).chain(preprocess.output_shape()).collect();
    Some(NamedTensor { name: Arc::clone(input), tensor: Tensor::new(shape, row).ok()? })
}

/// Sends every sample through the lanes, all at once, so that every lane opens the version; says
/// which answers differ from what is expected.
pub(super) async fn answers(
    samples: &[GoldenSample],
    manifest: &Manifest,
    handle: &ModelHandle,
    limits: &Limits,
) -> Vec<String> {
    let ask = async |sample: &GoldenSample| {
        let result = answer(sample, manifest, handle, limits).await;
        result.err().map(|it| format!("{}: {it}", sample.name))
    };
    join_all(samples.iter().map(ask)).await.into_iter().flatten().collect()
}

async fn answer(
    sample: &GoldenSample,
    manifest: &Manifest,
    handle: &ModelHandle,
    limits: &Limits,
) -> Result<(), String> {
    let (Some(outputs), Some(calibration)) = (&manifest.outputs, &manifest.calibration) else {
        return Err("a golden sample needs a model with scores".to_owned());
    };
    let header = imaging::inspect(&sample.image, limits).map_err(|it| it.to_string())?;
    let request = batch::Request {
        input: batch::Input::Image { bytes: Bytes::from_owner(Arc::clone(&sample.image)), header },
        outputs: Arc::from([Arc::clone(&outputs.scores)]),
        bounds: Bounds::until(Instant::now() + PATIENCE),
    };
    let answer = handle.infer(request).await.map_err(|it| it.to_string())?;
    let scores = answer.outputs.first().and_then(|it| it.tensor.as_f32()).unwrap_or_default();
    let judged = decide::decide(scores, calibration, manifest.decision.as_ref())
        .map_err(|it| it.to_string())?;
    if let Some(expected) = &sample.expected.scores {
        compare_scores(judged.probabilities.as_slice(), expected, manifest.tolerance.scores)?;
    }
    compare_verdict(judged.verdict.as_ref(), sample)
}

fn compare_scores(got: &[f32], expected: &[f32], tolerance: f64) -> Result<(), String> {
    if got.len() != expected.len() {
        return Err(format!("{} scores, {} were expected", got.len(), expected.len()));
    }
    let far = |(a, b): &(&f32, &f32)| (f64::from(**a) - f64::from(**b)).abs() > tolerance;
    match got.iter().zip(expected).enumerate().find(|(_, pair)| far(pair)) {
        Some((at, (got, expected))) => {
            Err(format!("score {at} is {got}, {expected} was expected (within {tolerance})"))
        }
        None => Ok(()),
    }
}

fn compare_verdict(got: Option<&Verdict>, sample: &GoldenSample) -> Result<(), String> {
    let Some(expected) = &sample.expected.verdict else { return Ok(()) };
    let Some(got) = got else {
        return Err("no verdict, though one was expected".to_owned());
    };
    let same_class = expected.class.is_none() || expected.class == got.class;
    if (got.decision, got.reason) == (expected.decision, expected.reason) && same_class {
        return Ok(());
    }
    let words = |decision: &str, reason: &str, class: &Option<String>| {
        format!("{decision}/{reason} ({})", class.as_deref().unwrap_or("no class"))
    };
    Err(format!(
        "verdict {}, {} was expected",
        words(got.decision.as_str(), got.reason.as_str(), &got.class),
        words(expected.decision.as_str(), expected.reason.as_str(), &expected.class)
    ))
}
