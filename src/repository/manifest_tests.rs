//! Every key of `package.toml`, and every complaint about it.

use proptest::prelude::*;

use super::*;

const VIALS: &str = r#"task = "classification"
labels = ["good", "particle", "chips_cracks"]
outputs = { scores = "logits", activation = "softmax", cam = "cam", embedding = "embedding" }
[preprocess]
colour = "rgb"
layout = "NCHW"
dtype = "f32"
decode = "full"
resize = { mode = "stretch", size = [224, 224], filter = "bilinear", antialias = true }
crop = "none"
scale = 0.00392156862745098
mean = [0.485, 0.456, 0.406]
std = [0.229, 0.224, 0.225]
orientation = "exif"
[calibration]
temperature = 1.3
[decision]
approve = "good"
approve_at = 0.98
reject_at = 0.50
severity = { particle = "critical", chips_cracks = "major" }
[item]
views = 1
[tolerance]
scores = 0.001
pixels_max = 1
pixels_mean = 0.15
"#;

fn parse(text: &str) -> Result<Manifest, Vec<String>> {
    Manifest::parse("m/1/package.toml", text.as_bytes())
        .map_err(|all| all.iter().map(Complaint::to_string).collect())
}

/// Changes the text, and expects these complaints, each by its start behind the file's name.
#[track_caller]
fn check(changes: &[(&str, &str)], expected: &[&str]) {
    let mut text = VIALS.to_owned();
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    let found = parse(&text).unwrap_err();
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        let start = format!("m/1/package.toml{expected}");
        assert!(found.starts_with(&start), "\n   found {found}\nexpected {start}");
    }
}

#[test]
fn the_package_of_the_design_is_read() {
    let manifest = parse(VIALS).unwrap();
    assert_eq!(manifest.task, Task::Classification);
    assert_eq!(manifest.labels.len(), 3);
    let outputs = manifest.outputs.as_ref().unwrap();
    assert_eq!((&*outputs.scores, outputs.cam.as_deref()), ("logits", Some("cam")));
    assert_eq!(manifest.preprocess.as_ref().unwrap().output_shape(), [3, 224, 224]);
    assert_eq!(&**manifest.decision.as_ref().unwrap().approved_label(), "good");
    assert_eq!(manifest.views.as_ref().unwrap().count(), 1);
    assert_eq!(manifest.tolerance, Tolerance::default());
    assert!(manifest.takes_images());
}

#[test]
fn little_is_required() {
    let tensors = parse("task = \"tensors\"").unwrap();
    assert_eq!((tensors.labels.len(), tensors.outputs, tensors.views), (0, None, None));
    let text = "task = \"multi-label\"\nlabels = [\"a\"]\n\
                outputs = { scores = \"s\", activation = \"sigmoid\" }\n[item]\nviews = [\"l\", \"r\"]";
    let multi = parse(text).unwrap();
    assert!(multi.calibration.is_some() && multi.decision.is_none() && !multi.takes_images());
    assert_eq!(multi.views.unwrap().count(), 2);
}

#[test]
fn complaints_about_task_labels_and_outputs() {
    check(
        &[("task =", "tsak =")],
        &[": task: is missing", ":1:1: tsak: unknown key, expected one of task, labels"],
    );
    check(&[("\"classification\"", "\"segmentation\"")], &[":1:8: task: unknown variant"]);
    check(
        &[("\"particle\", \"chips_cracks\"]", "\"good\", \"particle\", \"chips_cracks\", \" \"]")],
        &[":2:1: labels: \"good\" stands twice", ":2:1: labels: a label is empty"],
    );
    check(&[("labels = [\"good\"", "labels = [1, \"good\"")], &[":2:11: labels: invalid type"]);
    check(&[("\"good\", \"particle\", \"chips_cracks\"", "")], &[":2:1: labels: a classification"]);
    check(&[("outputs =", "#")], &[": outputs: is missing"]);
    check(&[("activation = \"softmax\", ", "")], &[":3:11: outputs: missing field `activation`"]);
    check(
        &[("activation = \"softmax\"", "activation = \"relu\"")],
        &[":3:45: [outputs].activation: unknown variant"],
    );
    check(
        &[("cam = \"cam\"", "cam = \"logits\"")],
        &[":3:1: outputs: \"logits\" is empty or named"],
    );
    check(&[("\"classification\"", "\"multi-label\"")], &[":3:32: [outputs].activation: softmax"]);
    check(
        &[("\"classification\"", "\"tensors\"")],
        &[
            ":3:1: outputs: has no meaning",
            ":15:2: calibration: has no meaning",
            ":17:2: decision: has no meaning",
        ],
    );
}

#[test]
fn complaints_about_the_rest() {
    check(&[("1.3", "0")], &[":16:1: [calibration].temperature: temperature is 0"]);
    check(&[("1.3", "inf")], &[":16:1: [calibration].temperature: temperature is inf"]);
    check(
        &[("\"softmax\"", "\"none\"")],
        &[":16:1: [calibration].temperature: temperature 1.3 has"],
    );
    check(
        &[("approve = \"good\"", "approve = \"fine\"")],
        &[":18:1: [decision].approve: \"fine\" is"],
    );
    check(&[("0.98\n", "0.5\n")], &[":19:1: [decision].approve_at: approve_at 0.5 is not above"]);
    check(&[("0.98\n", "1\n")], &[":19:1: [decision].approve_at: approve_at 1 + tolerance"]);
    check(&[("0.50", "nan")], &[":20:1: [decision].reject_at: NaN is not a threshold"]);
    check(
        &[("particle = \"critical\"", "scratch = \"critical\"")],
        &[":21:1: [decision].severity: \"scratch\" is not one of the labels"],
    );
    check(
        &[("\"critical\"", "\"fatal\"")],
        &[":21:25: [decision].severity.particle: unknown variant"],
    );
    check(
        &[("approve_at =", "aprove_at =")],
        &[
            ":17:1: decision: missing field `approve_at`",
            ":19:1: [decision].aprove_at: unknown field `aprove_at`",
        ],
    );
    for views in ["0", "65", "[]", "[\"a\", \"a\"]", "[\"\"]"] {
        check(
            &[("views = 1", &format!("views = {views}"))],
            &[":23:1: [item].views: a number from"],
        );
    }
    check(
        &[("views = 1", "views = \"a\"")],
        &[":23:9: [item].views: views are a number or a list"],
    );
    check(
        &[("pixels_max = 1", "pixels_max = 300")],
        &[":26:14: [tolerance].pixels_max: invalid value"],
    );
    check(&[("= 0.15", "= -1")], &[":27:1: [tolerance].pixels_mean: -1 is not in 0..=255"]);
    check(&[("scores = 0.001", "scores = nan")], &[":25:1: [tolerance].scores: NaN is not in"]);
    check(&[("std = [0.229", "std = [0")], &[":13:1: [preprocess].std: "]);
    check(
        &[("colour = \"rgb\"", "colour = \"cmyk\"")],
        &[":5:10: [preprocess].colour: unknown variant"],
    );
    check(&[("[224, 224]", "[0, 224]")], &[":9:30: [preprocess].resize.size: each side"]);
}

#[test]
fn a_decision_needs_preprocessing() {
    let start = VIALS.find("[preprocess]").unwrap();
    let end = VIALS.find("[calibration]").unwrap();
    let without = format!("{}{}", &VIALS[..start], &VIALS[end..]);
    let found = parse(&without).unwrap_err();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("decision: needs [preprocess]"), "{found:?}");
}

#[test]
fn everything_wrong_is_said_at_once() {
    check(
        &[
            ("\"softmax\"", "\"relu\""),
            ("\"NCHW\"", "\"CHWN\""),
            ("dtype = \"f32\"", "dtype = \"f99\""),
            ("crop = \"none\"", "crup = \"none\""),
            ("1.3", "-1"),
            ("0.98", "\"high\""),
            ("reject_at = 0.50", "reject_it = 0.50"),
            ("views = 1", "views = 0"),
            ("pixels_max = 1", "pixels_max = -1"),
        ],
        &[
            ":3:45: [outputs].activation",
            ":6:10: [preprocess].layout",
            ":7:9: [preprocess].dtype",
            ":10:1: [preprocess].crup",
            ":19:14: [decision].approve_at",
            ":20:1: [decision].reject_it",
            ":23:1: [item].views",
            ":26:14: [tolerance].pixels_max",
        ],
    );
}

#[test]
fn what_is_no_toml_has_its_place() {
    check(&[("1.3", "")], &[":16:"]);
    check(&[("[item]", "[decision]")], &[":22:"]);
    let not_text = Manifest::parse("p", b"task = \"\xff\"").unwrap_err();
    assert_eq!(not_text[0].to_string(), "p:1:9: is not UTF-8 from here");
    let deep = format!("labels = {}", "[".repeat(100_000));
    assert!(parse(&deep).is_err());
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "(task|labels|\\[decision\\]|=|\\[|\\]|\"|\n|1|\\.| |é){0,40}") {
        let _either_way = parse(&text);
    }

    #[test]
    fn no_cut_makes_it_panic(at in 0..VIALS.len(), end in 0..VIALS.len()) {
        let (at, end) = (at.min(end), at.max(end));
        let _either_way = parse(&format!("{}{}", &VIALS[..at], &VIALS[end..]));
    }
}
