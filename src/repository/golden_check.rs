//! Asks a version its golden samples, through the real path, before it serves.
//!
//! Two comparisons: the pixels after decoding and resizing against the reference pipeline's, which
//! catches a wrong resampler or channel order at its root; then scores and verdict as a client
//! would get them, which catches everything else.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;

use super::{golden::GoldenSample, manifest::Manifest, profile::DISTINCT};
use crate::{
    batch::{self, BatchError, Bounds, Class, ModelHandle},
    decide,
    imaging::{self, Limits, Pixels, Preprocess, Reference, Workspace},
    types::{Instant, NamedTensor, Tensor, Verdict},
};

/// Golden samples are not held to the budget: a slow machine is another complaint.
const PATIENCE: Duration = Duration::from_secs(600);

/// The pixels of every sample, compared with the reference, by as many threads as help.
#[derive(Debug)]
pub(super) struct PixelCheck<'a> {
    samples: &'a [GoldenSample],
    manifest: &'a Manifest,
    limits: &'a Limits,
    /// The sample that nobody has taken yet.
    next: AtomicUsize,
    /// What came of each by its position; the lock is held to put one in.
    checked: Mutex<BTreeMap<usize, Checked>>,
}

#[derive(Debug)]
struct Checked {
    /// Kept of the first few, to measure with.
    pixels: Option<Pixels>,
    complaint: Option<String>,
}

impl<'a> PixelCheck<'a> {
    pub(super) fn new(
        samples: &'a [GoldenSample],
        manifest: &'a Manifest,
        limits: &'a Limits,
    ) -> Self {
        let (next, checked) = (AtomicUsize::new(0), Mutex::default());
        Self { samples, manifest, limits, next, checked }
    }

    /// Checks samples until none is left.
    pub(super) fn work(&self) {
        let Some(preprocess) = &self.manifest.preprocess else { return };
        let mut workspace = Workspace::new();
        loop {
            let at = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(sample) = self.samples.get(at) else { return };
            let checked = match self.check(sample, preprocess, &mut workspace) {
                Ok(pixels) => {
                    Checked { pixels: Some(pixels).filter(|_| at < DISTINCT), complaint: None }
                }
                Err(why) => {
                    Checked { pixels: None, complaint: Some(format!("{}: {why}", sample.name)) }
                }
            };
            self.checked.lock().unwrap_or_else(PoisonError::into_inner).insert(at, checked);
        }
    }

    fn check(
        &self,
        sample: &GoldenSample,
        preprocess: &Preprocess,
        workspace: &mut Workspace,
    ) -> Result<Pixels, String> {
        let pixels = workspace
            .prepare(&sample.image, preprocess, self.limits)
            .map_err(|error| error.to_string())?;
        if let Some(tensor) = &sample.tensor {
            compare_pixels(tensor, &pixels, self.manifest, preprocess)?;
        }
        Ok(pixels)
    }

    /// The pixels of the first samples, and every complaint, in the order of the samples. For when
    /// all who work have ended.
    pub(super) fn finish(self) -> (Vec<Pixels>, Vec<String>) {
        let checked = self.checked.into_inner().unwrap_or_else(PoisonError::into_inner);
        let (mut pixels, mut complaints) = (Vec::new(), Vec::new());
        for it in checked.into_values() {
            pixels.extend(it.pixels);
            complaints.extend(it.complaint);
        }
        (pixels, complaints)
    }
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

/// What came of the samples.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// Which answers differ from what is expected, and how.
    pub(super) complaints: Vec<String>,
    /// The shortest run among them, each of one row.
    pub(super) shortest_run: Option<Duration>,
}

/// Sends every sample through the lanes, all at once, so that every lane opens the version.
pub(super) async fn answers(
    samples: &[GoldenSample],
    manifest: &Manifest,
    handle: &ModelHandle,
    limits: &Limits,
) -> Answers {
    let ask = async |sample: &GoldenSample| {
        let result = answer(sample, manifest, handle, limits).await;
        result.map_err(|it| format!("{}: {it}", sample.name))
    };
    let mut all = Answers::default();
    for result in join_all(samples.iter().map(ask)).await {
        match result {
            Ok(run) => all.shortest_run = Some(all.shortest_run.map_or(run, |it| it.min(run))),
            Err(complaint) => all.complaints.push(complaint),
        }
    }
    all
}

/// Asks for one sample and compares; says how long its run took.
async fn answer(
    sample: &GoldenSample,
    manifest: &Manifest,
    handle: &ModelHandle,
    limits: &Limits,
) -> Result<Duration, String> {
    let (Some(outputs), Some(calibration)) = (&manifest.outputs, &manifest.calibration) else {
        return Err("a golden sample needs a model with scores".to_owned());
    };
    let header = imaging::inspect(&sample.image, limits).map_err(|it| it.to_string())?;
    let bounds = Bounds::until(Instant::now() + PATIENCE);
    let request = || batch::Request {
        input: batch::Input::Image { bytes: Bytes::from_owner(Arc::clone(&sample.image)), header },
        outputs: Arc::from([Arc::clone(&outputs.scores)]),
        class: Class::Low,
        bounds,
    };
    let answer = loop {
        match handle.infer(request()).await {
            // Clients come first, and there are more than can be answered in time.
            Err(BatchError::Refused(it)) if Instant::now() + it.retry_after < bounds.expires => {
                tokio::time::sleep(it.retry_after).await;
            }
            other => break other.map_err(|it| it.to_string())?,
        }
    };
    let scores = answer.outputs.first().and_then(|it| it.tensor.as_f32()).unwrap_or_default();
    let judged = decide::decide(scores, calibration, manifest.decision.as_ref())
        .map_err(|it| it.to_string())?;
    if let Some(expected) = &sample.expected.scores {
        compare_scores(judged.probabilities.as_slice(), expected, manifest.tolerance.scores)?;
    }
    compare_verdict(judged.verdict.as_ref(), sample)?;
    Ok(answer.infer)
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
