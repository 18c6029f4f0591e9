//! What the JSON files of a Hugging Face export say, as far as it is understood without doubt.
//!
//! The labels come from `config.json`. Preprocessing comes from `preprocessor_config.json`, and only
//! if every key of it is known and its processor is one whose steps are known: a guess would give
//! answers that look right and are not. Both are put into the words of a `package.toml` and read as
//! one, so that the same checks hold.

use std::{collections::BTreeMap, fmt::Write as _, path::Path};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    card::parse_json,
    complaint::Complaint,
    files::{Limits, read_sealed},
    manifest::Manifest,
};
use crate::types::ModelName;

/// Processors that resize, crop, scale and normalise, in that order, by exactly the keys they
/// write. (`ConvNext`, for one, crops by a hidden percentage.)
const KNOWN_PROCESSORS: [&str; 6] = ["ViT", "DeiT", "CLIP", "Bit", "MobileNetV1", "MobileNetV2"];

/// What was understood.
pub(crate) struct Export {
    /// `None` if there are no labels.
    pub(crate) manifest: Option<Manifest>,
    pub(crate) notes: Vec<Complaint>,
}

#[derive(Deserialize)]
struct Config {
    id2label: Option<BTreeMap<String, String>>,
    problem_type: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Processor {
    image_processor_type: Option<String>,
    feature_extractor_type: Option<String>,
    do_resize: Option<bool>,
    size: Value,
    resample: u8,
    do_center_crop: Option<bool>,
    crop_size: Option<Value>,
    do_rescale: Option<bool>,
    rescale_factor: Option<f64>,
    do_normalize: Option<bool>,
    image_mean: Vec<f64>,
    image_std: Vec<f64>,
    #[serde(rename = "do_convert_rgb")]
    _do_convert_rgb: Option<bool>,
    #[serde(rename = "_valid_processor_keys")]
    _valid_processor_keys: Option<Value>,
    #[serde(rename = "processor_class")]
    _processor_class: Option<Value>,
}

/// Reads the export in `dir`. Nothing in it is an error: what is not understood is a note.
pub(crate) fn read(dir: &Path, name: &ModelName, limits: &Limits) -> Export {
    let mut notes = Vec::new();
    let manifest = understand(dir, name, limits, &mut notes);
    Export { manifest, notes }
}

fn understand(
    dir: &Path,
    name: &ModelName,
    limits: &Limits,
    notes: &mut Vec<Complaint>,
) -> Option<Manifest> {
    let config: Config =
        load(dir, name, "config.json", limits).map_err(|it| notes.push(it)).ok()?;
    let place = format!("{name}/config.json");
    let Some(head) = head(&config) else {
        notes.push(Complaint::new(place, "id2label does not number its labels from 0: no labels"));
        return None;
    };
    let file = "preprocessor_config.json";
    let preprocess = load(dir, name, file, limits).and_then(|it: Processor| {
        preprocess(&it).ok_or_else(|| {
            Complaint::new(format!("{name}/{file}"), "is not understood: only tensors are served")
        })
    });
    let preprocess = preprocess.map_err(|it| notes.push(it)).ok();
    let whole = preprocess.map(|it| format!("{head}{it}"));
    for text in whole.iter().chain([&head]) {
        match Manifest::parse(&place, text.as_bytes()) {
            Ok(manifest) => return Some(manifest),
            // Lines and columns would be those of a text that nobody wrote.
            Err(complaints) => notes.extend(complaints.into_iter().map(|it| Complaint {
                line: None,
                column: None,
                ..it
            })),
        }
    }
    None
}

fn load<T: DeserializeOwned>(
    dir: &Path,
    name: &ModelName,
    file: &str,
    limits: &Limits,
) -> Result<T, Complaint> {
    let place = format!("{name}/{file}");
    let bytes =
        read_sealed(&dir.join(file), limits.json).map_err(|it| Complaint::new(&place, it))?;
    parse_json(&place, &bytes)
}

/// Task, labels and outputs; `None` without labels numbered 0, 1, 2, …
fn head(config: &Config) -> Option<String> {
    let id2label = config.id2label.as_ref()?;
    let mut labels = BTreeMap::new();
    for (id, label) in id2label {
        labels.insert(id.parse::<usize>().ok()?, toml::Value::String(label.clone()));
    }
    if labels.is_empty() || labels.keys().copied().ne(0..labels.len()) {
        return None;
    }
    let labels = toml::Value::Array(labels.into_values().collect());
    let multi = config.problem_type.as_deref() == Some("multi_label_classification");
    let (task, activation) =
        if multi { ("multi-label", "sigmoid") } else { ("classification", "softmax") };
    let outputs = format!("{{ scores = \"logits\", activation = \"{activation}\" }}");
    Some(format!("task = \"{task}\"\nlabels = {labels}\noutputs = {outputs}\n"))
}

/// The table `[preprocess]`; `None` where a step is not known for certain.
fn preprocess(it: &Processor) -> Option<String> {
    let processor = it.image_processor_type.as_ref().or(it.feature_extractor_type.as_ref())?;
    let family = ["ImageProcessorFast", "ImageProcessor", "FeatureExtractor"]
        .iter()
        .find_map(|suffix| processor.strip_suffix(suffix))?;
    let steps_known = KNOWN_PROCESSORS.contains(&family)
        && it.do_resize == Some(true)
        && it.do_normalize == Some(true)
        && it.do_rescale.unwrap_or(true);
    if !steps_known {
        return None;
    }
    let filter = ["nearest", "lanczos", "bilinear", "bicubic"].get(usize::from(it.resample))?;
    let crop = it.do_center_crop.unwrap_or(false).then(|| pair(it.crop_size.as_ref()));
    let resize = match (&it.size["shortest_edge"], pair(Some(&it.size))) {
        (Value::Number(edge), None) if crop.is_some() => {
            format!("mode = \"shortest\", size = {edge}")
        }
        (Value::Null, Some([height, width])) => {
            format!("mode = \"stretch\", size = [{height}, {width}]")
        }
        // An old way to write a square; other processors meant the shorter side by it.
        (Value::Null, None) if family == "ViT" => {
            let side = it.size.as_u64()?;
            format!("mode = \"stretch\", size = [{side}, {side}]")
        }
        _ => return None,
    };
    let crop = match crop {
        None => "\"none\"".to_owned(),
        Some(size) => {
            let [height, width] = size?;
            format!("{{ centre = [{height}, {width}] }}")
        }
    };
    let antialias = if *filter == "nearest" { "" } else { ", antialias = true" };
    let scale = it.rescale_factor.unwrap_or(1.0 / 255.0);
    let mut text = String::from("[preprocess]\ncolour = \"rgb\"\nlayout = \"NCHW\"\n");
    let _writing_to_a_string_succeeds = write!(
        text,
        "resize = {{ {resize}, filter = \"{filter}\"{antialias} }}\ncrop = {crop}\n\
         scale = {scale:?}\nmean = {:?}\nstd = {:?}\norientation = \"ignore\"\n",
        it.image_mean, it.image_std
    );
    Some(text)
}

/// `{"height": h, "width": w}`.
fn pair(size: Option<&Value>) -> Option<[u64; 2]> {
    let size = size?.as_object().filter(|it| it.len() == 2)?;
    Some([size.get("height")?.as_u64()?, size.get("width")?.as_u64()?])
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const CONFIG: &str = r#"{"id2label":{"0":"cat","10":"k","1":"dog \"x\"","2":"c","3":"d","4":"e","5":"f","6":"g","7":"h","8":"i","9":"j"},"x":1}"#;

    fn export(config: &str, processor: Option<&str>) -> Export {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("config.json"), config).unwrap();
        if let Some(processor) = processor {
            fs::write(dir.path().join("preprocessor_config.json"), processor).unwrap();
        }
        read(dir.path(), &"m".parse().unwrap(), &Limits::default())
    }

    #[test]
    fn labels_come_in_the_order_of_their_numbers() {
        let export = export(CONFIG, None);
        let manifest = export.manifest.unwrap();
        let labels: Vec<_> = manifest.labels.iter().map(|it| &**it).collect();
        assert_eq!(labels, ["cat", "dog \"x\"", "c", "d", "e", "f", "g", "h", "i", "j", "k"]);
        assert!(!manifest.takes_images());
        assert!(export.notes[0].to_string().contains("preprocessor_config.json: is missing"));
        for bad in ["{}", r#"{"id2label":{"1":"a"}}"#, r#"{"id2label":{"x":"a"}}"#, "[", "{"] {
            assert!(self::export(bad, None).manifest.is_none(), "{bad}");
        }
    }

    #[test]
    fn preprocessing_is_taken_only_if_all_of_it_is_understood() {
        let shape = |processor: &str| {
            export(CONFIG, Some(processor))
                .manifest
                .and_then(|it| it.preprocess)
                .map(|it| it.output_shape())
        };
        let vit = r#"{"image_processor_type":"ViTImageProcessor","do_resize":true,"size":{"height":224,"width":192},"resample":2,"do_rescale":true,"rescale_factor":0.00392156862745098,"do_normalize":true,"image_mean":[0.5,0.5,0.5],"image_std":[0.5,0.5,0.5]}"#;
        assert_eq!(shape(vit), Some([3, 224, 192]));
        let old = r#"{"feature_extractor_type":"ViTFeatureExtractor","do_resize":true,"size":224,"resample":2,"do_normalize":true,"image_mean":[0.5,0.5,0.5],"image_std":[0.5,0.5,0.5]}"#;
        assert_eq!(shape(old), Some([3, 224, 224]));
        let clip = r#"{"image_processor_type":"CLIPImageProcessor","do_resize":true,"size":{"shortest_edge":256},"resample":3,"do_center_crop":true,"crop_size":{"height":224,"width":224},"do_normalize":true,"image_mean":[0.5,0.5,0.5],"image_std":[0.5,0.5,0.5]}"#;
        assert_eq!(shape(clip), Some([3, 224, 224]));
        for odd in [
            vit.replace("ViTImage", "ConvNextImage"),
            vit.replace("\"resample\":2", "\"resample\":9"),
            vit.replace("\"do_rescale\":true", "\"do_rescale\":false"),
            vit.replace("\"do_resize\":true,", ""),
            vit.replace("\"do_resize\"", "\"crop_pct\":0.9,\"do_resize\""),
            vit.replace("\"width\":192", "\"longest\":192"),
            vit.replace("\"image_std\":[0.5,0.5,0.5]", "\"image_std\":[0.0,0.5,0.5]"),
            old.replace("ViT", "CLIP"),
            clip.replace("\"do_center_crop\":true,", ""),
        ] {
            assert_eq!(shape(&odd), None, "{odd}");
            let export = export(CONFIG, Some(&odd));
            assert!(export.manifest.is_some(), "the labels stay");
            assert!(!export.notes.is_empty(), "and a note says so");
        }
    }
}
