//! The `colour` family: flat pictures, what is to come out of them, and packages that prove it.

use std::io::Cursor;

use image::{ImageFormat, Rgb, RgbImage};
use linesight::types::Digest;
use serde_json::{Value, json};

use super::models::{Repository, colour_manifest, onnx};

pub const LABELS: [&str; 3] = ["red", "green", "blue"];
pub const RED: [u8; 3] = [255, 0, 0];
pub const GREEN: [u8; 3] = [0, 255, 0];
/// No label above a half, green not above nine tenths.
pub const GREY: [u8; 3] = [128, 128, 128];
/// The same as PNG, as an error's opposite: bytes of no picture.
pub const NO_IMAGE: &[u8] = b"<html>not a picture</html>";

/// A flat picture of the model's own size, so that resizing changes nothing.
pub fn png(colour: [u8; 3]) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    RgbImage::from_pixel(32, 32, Rgb(colour)).write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// What `colour` must answer: softmax of ten times the channels' means.
pub fn scores(colour: [u8; 3]) -> [f64; 3] {
    softmax(colour.map(|it| 10.0 * f64::from(it) / 255.0))
}

pub fn softmax(logits: [f64; 3]) -> [f64; 3] {
    let powers = logits.map(f64::exp);
    powers.map(|it| it / powers.iter().sum::<f64>())
}

/// What the policy of [`colour_manifest`] must say to scores.
pub fn verdict(scores: [f64; 3]) -> &'static str {
    let [red, green, blue] = scores;
    match () {
        () if green >= 0.9 + 1e-3 => "approve/ok",
        () if red.max(blue) >= 0.5 => "reject/defect",
        () => "undecided/low_confidence",
    }
}

/// A golden sample: its file, and what is expected.
pub struct Golden {
    pub file: String,
    pub image: Vec<u8>,
    pub scores: [f64; 3],
    pub verdict: Option<&'static str>,
}

impl Golden {
    /// A flat picture with the right answer of `colour`.
    pub fn colour(colour: [u8; 3]) -> Self {
        let [r, g, b] = colour;
        let scores = scores(colour);
        let file = format!("{r}-{g}-{b}.png");
        Self { file, image: png(colour), scores, verdict: Some(verdict(scores)) }
    }

    fn json(&self) -> Value {
        let verdict = self.verdict.map(|it| {
            let (decision, reason) = it.split_once('/').unwrap();
            let highest = if self.scores[0] > self.scores[2] { "red" } else { "blue" };
            let class = (decision == "reject").then_some(highest);
            json!({"decision": decision, "reason": reason, "class": class})
        });
        let mut sample = json!({"image": self.file, "scores": self.scores});
        if let Some(verdict) = verdict {
            sample["verdict"] = verdict;
        }
        sample
    }
}

/// A green, a red and a grey one.
pub fn three() -> Vec<Golden> {
    [GREEN, RED, GREY].map(Golden::colour).into()
}

impl Repository {
    /// Version 1 of the `colour` model with a policy and golden samples: it gives verdicts.
    pub fn proven(&self, name: &str, model_toml: &str) -> &Self {
        self.proven_by(&format!("{name}/1"), "colour", &colour_manifest(true), &three());
        if !model_toml.is_empty() {
            self.file(&format!("{name}/model.toml"), model_toml);
        }
        self
    }

    /// A version with golden samples, in its folder: `colour/1`.
    pub fn proven_by(
        &self,
        folder: &str,
        onnx_name: &str,
        manifest: &str,
        golden: &[Golden],
    ) -> &Self {
        self.file(&format!("{folder}/model.onnx"), std::fs::read(onnx(onnx_name)).unwrap());
        self.file(&format!("{folder}/package.toml"), manifest);
        for sample in golden {
            self.file(&format!("{folder}/golden/{}", sample.file), &sample.image);
        }
        let samples: Vec<_> = golden.iter().map(Golden::json).collect();
        let list =
            json!({"schema": "linesight.golden/1", "recorded_by": "a test", "samples": samples});
        self.file(&format!("{folder}/golden/golden.json"), list.to_string())
    }

    /// Seals a version: everything in its folder goes under the digests of a `card.json`.
    pub fn seal(&self, name: &str, version: &str) -> &Self {
        let folder = self.path().join(name).join(version);
        let mut files = serde_json::Map::new();
        for sub in ["", "golden/"] {
            let Ok(entries) = std::fs::read_dir(folder.join(sub)) else { continue };
            for path in entries.map(|it| it.unwrap().path()).filter(|it| it.is_file()) {
                let bytes = std::fs::read(&path).unwrap();
                let place = format!("{sub}{}", path.file_name().unwrap().to_str().unwrap());
                let (sha256, size) = (Digest::of(&bytes).hex(), bytes.len());
                files.insert(place, json!({"sha256": sha256, "size": size}));
            }
        }
        let card = json!({"schema": "linesight.card/1", "name": name, "version": version,
            "seed": 7, "files": files});
        self.file(&format!("{name}/{version}/card.json"), card.to_string())
    }
}
