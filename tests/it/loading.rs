//! From a folder to readiness: what must not be served is not, the rest is, and three places say why.

use std::{fs, process::Command};

use serde_json::{Value, json};

use crate::support::{
    client::{get, post},
    colours::{GREEN, Golden, RED, png, three},
    models::{Repository, colour_manifest, onnx},
    server::{Server, Settings, until},
};

/// A model that fails, in a repository where another one serves.
struct Failing {
    what: &'static str,
    /// Makes the model `bad`.
    make: fn(&Repository),
    /// What `GET /v1/models/bad` says of it, in part.
    why: &'static str,
    /// Golden samples that were answered wrongly.
    golden_failures: u64,
}

/// A byte of a file, turned over.
fn flip(models: &Repository, path: &str) {
    let path = models.path().join(path);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn wrong_score() -> Vec<Golden> {
    let mut samples = three();
    samples[1].scores = [0.98, 0.01, 0.01];
    samples
}

const FAILING: &[Failing] = &[
    Failing {
        what: "a pipe in the place of package.toml, which nobody writes to",
        make: |models| {
            models.proven("bad", "");
            let manifest = models.path().join("bad/1/package.toml");
            fs::remove_file(&manifest).unwrap();
            assert!(Command::new("mkfifo").arg(manifest).status().unwrap().success());
        },
        why: "bad/1/package.toml: is a named pipe",
        golden_failures: 0,
    },
    Failing {
        what: "a corrupt model.onnx",
        make: |models| {
            models.proven("bad", "");
            models.file("bad/1/model.onnx", &fs::read(onnx("colour")).unwrap()[..100]);
        },
        why: "ONNX Runtime cannot open model.onnx",
        golden_failures: 0,
    },
    Failing {
        what: "a sealed model of which a byte was turned over",
        make: |models| {
            models.proven("bad", "").seal("bad", "1");
            flip(models, "bad/1/model.onnx");
        },
        why: "bad/1/model.onnx: is sha256:",
        golden_failures: 0,
    },
    Failing {
        what: "a sealed golden image of which a byte was turned over",
        make: |models| {
            models.proven("bad", "").seal("bad", "1");
            flip(models, "bad/1/golden/255-0-0.png");
        },
        why: "bad/1/golden/255-0-0.png: is sha256:",
        golden_failures: 0,
    },
    Failing {
        what: "a file that is not under the seal",
        make: |models| {
            models.proven("bad", "").seal("bad", "1").file("bad/1/extra.txt", "x");
        },
        why: "bad/1/extra.txt: is not in card.json",
        golden_failures: 0,
    },
    Failing {
        what: "a golden sample with another score",
        make: |models| {
            models.proven_by("bad/1", "colour", &colour_manifest(true), &wrong_score());
        },
        why: "1 of 3 golden samples failed, the first: 255-0-0.png: score 0",
        golden_failures: 1,
    },
    Failing {
        what: "a golden sample with another verdict",
        make: |models| {
            let mut samples = three();
            samples[2].verdict = Some("approve/ok");
            models.proven_by("bad/1", "colour", &colour_manifest(true), &samples);
        },
        why: "128-128-128.png: verdict undecided/low_confidence",
        golden_failures: 1,
    },
    Failing {
        what: "a golden image that is none",
        make: |models| {
            models.proven("bad", "").file("bad/1/golden/255-0-0.png", "no picture");
        },
        why: "1 of 3 golden samples failed",
        golden_failures: 1,
    },
    Failing {
        what: "a malformed package.toml",
        make: |models| {
            models
                .proven("bad", "")
                .file("bad/1/package.toml", "task = \"classification\"\nlabels =");
        },
        why: "bad/1/package.toml:2:9:",
        golden_failures: 0,
    },
    Failing {
        what: "labels that are not the model's",
        make: |models| {
            let manifest = colour_manifest(false).replace("\"red\", ", "");
            models.colour("bad", "colour", &manifest, "required = true\n");
        },
        why: "package.toml does not fit model.onnx: there are 2 labels",
        golden_failures: 0,
    },
    Failing {
        what: "an item that takes longer than the limit",
        make: |models| {
            let budget = "required = true\n[budget]\ntarget = \"1ms\"\nlimit = \"2ms\"\n";
            models.colour("bad", "slow", &colour_manifest(false), budget);
        },
        why: "longer than the limit of 2 ms; raise [budget] limit",
        golden_failures: 0,
    },
    Failing {
        what: "more lanes than cores",
        make: |models| {
            models.proven("bad", "[runtime]\nlanes = 2\n");
        },
        why: "[runtime] lanes = 2 in model.toml is more than the 1 this process has",
        golden_failures: 0,
    },
    Failing {
        what: "a lane that may not use what one row takes",
        make: |models| {
            let wants = "required = true\n[runtime]\nmemory = \"1MiB\"\n";
            models.file("bad/1/model.onnx", fs::read(onnx("wide_mlp")).unwrap());
            models.file("bad/model.toml", wants);
        },
        why: "more than [runtime] memory in model.toml allows (1 MiB)",
        golden_failures: 0,
    },
];

#[test]
fn a_version_that_cannot_fit_into_memory_is_refused_and_the_process_lives() {
    let models = Repository::empty();
    models.proven("colour", "");
    let server =
        Settings::new(models.path()).set("LINESIGHT_RUNTIME__MEMORY", "1MiB").cores("1").start();
    let said = server.logged("not served");
    let why = "loading model.onnx takes four times its size, at least 1 MiB, and 0 MiB are left of the 1 MiB \
               that the process may take; raise the container's memory limit";
    assert_eq!(said["error"], why);
    until("the reason on the page of readiness", || {
        let ready = get("/readyz").send(server.admin);
        assert_eq!(ready.status, 503, "{}", ready.text());
        ready.text().contains(why).then_some(())
    });
    assert_eq!(get("/livez").send(server.admin).status, 200);
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_version_that_must_not_serve_does_not_and_three_places_say_why() {
    for Failing { what, make, why, golden_failures } in FAILING {
        let models = Repository::empty();
        models.proven("good", "");
        make(&models);
        let server = Settings::new(models.path()).start();
        let line = server.logged_that("not served", |it| it["model"] == "bad");
        assert_eq!(line["level"], "ERROR", "{what}: {line}");
        let said = line["error"].as_str().unwrap();
        assert!(said.contains(why), "{what}: {said}");
        server.logged_that("serving", |it| it["model"] == "good");
        // Why, for an operator: in the list, and in the body of the probe.
        let ready = server.wait_for_status("/readyz?verbose=1", 503);
        assert!(ready.text().contains("bad version 1 failed"), "{what}: {}", ready.text());
        let version = &server.json("/v1/models/bad")["versions"][0];
        assert_eq!(version["state"], "failed", "{what}");
        assert!(version["reason"].as_str().unwrap().contains(why), "{what}: {version}");
        let root = models.path().to_str().unwrap();
        assert!(!server.json("/v1/models").to_string().contains(root), "{what}: a path of ours");
        // The metrics.
        let state = |model: &str, state: &str| {
            let labels = format!("model=\"{model}\",state=\"{state}\",version=\"1\"");
            server.metric(&format!("linesight_model_state{{{labels}}}"))
        };
        assert_eq!((state("bad", "failed"), state("bad", "serving")), (1, 0), "{what}");
        assert_eq!((state("good", "failed"), state("good", "serving")), (0, 1), "{what}");
        let failures = "linesight_golden_failures_total{model=\"bad\",version=\"1\"}";
        assert_eq!(server.metric(failures), *golden_failures, "{what}");
        // A client learns that, and not why; the rest serves.
        let answer = server.send(&post("/v1/models/bad/predict", png(GREEN)));
        assert_eq!(answer.status, 503, "{what}: {}", answer.text());
        assert_eq!(answer.verdict(0), "undecided/not_ready", "{what}");
        let answer = server.send(&post("/v1/models/good/predict", png(GREEN)));
        assert_eq!(answer.verdict(0), "approve/ok", "{what}");
    }
}

#[test]
fn a_malformed_model_toml_leaves_the_model_unserved() {
    let models = Repository::empty();
    models.proven("good", "");
    models.proven("bad", "serve = \"1\"\n[budget]\ntarget = \"soon\"\n");
    models.proven("sealed", "labels = [\"a\"]\n");
    let server = Settings::new(models.path()).start();
    server.logged_that("serving", |it| it["model"] == "good");
    for (model, why) in [("bad", "bad/model.toml:3:1: [budget].target"), ("sealed", "is sealed")] {
        let line = server.logged_that("not served as it is meant", |it| it["model"] == model);
        assert!(line["complaint"].as_str().unwrap().contains(why), "{line}");
        let complaints = server.json(&format!("/v1/models/{model}"))["complaints"].to_string();
        assert!(complaints.contains(why), "{complaints}");
        let answer = server.send(&post(&format!("/v1/models/{model}/predict"), png(GREEN)));
        assert_eq!((answer.status, &*answer.verdict(0)), (503, "undecided/not_ready"));
        assert_eq!(server.json(&format!("/v1/models/{model}"))["versions"][0]["state"], "failed");
        let labels = format!("model=\"{model}\",state=\"failed\",version=\"1\"");
        assert_eq!(server.metric(&format!("linesight_model_state{{{labels}}}")), 1, "{model}");
    }
    assert_eq!(get("/readyz").send(server.admin).status, 503);
}

#[test]
fn of_several_versions_the_operator_says_which_serves() {
    let models = Repository::empty();
    for version in ["1", "2", "3"] {
        models.proven_by(&format!("pinned/{version}"), "colour", &colour_manifest(true), &three());
        models.proven_by(&format!("open/{version}"), "colour", &colour_manifest(true), &three());
    }
    models.file("pinned/model.toml", "serve = [\"2\", \"1\"]\n");
    let server = Settings::new(models.path()).start();
    for version in ["1", "2"] {
        server.logged_that("serving", |it| it["model"] == "pinned" && it["version"] == version);
    }
    let ask = |path: &str| server.send(&post(&format!("/v1/models/{path}/predict"), png(RED)));
    assert_eq!(ask("pinned").json()["model"]["version"], "2", "the first is the default");
    assert_eq!(ask("pinned/versions/1").json()["model"]["version"], "1");
    for path in ["pinned/versions/3", "open", "open/versions/3"] {
        let answer = ask(path);
        assert_eq!(
            (answer.status, answer.json()["code"].as_str()),
            (404, Some("version_not_served"))
        );
        assert_eq!(answer.verdict(0), "undecided/request_invalid");
    }
    let complaints = server.json("/v1/models/open")["complaints"].to_string();
    assert!(complaints.contains("set serve = "), "{complaints}");
    server.logged_that("not served as it is meant", |it| it["model"] == "open");
}

#[test]
fn readiness_waits_for_the_golden_samples() {
    let models = Repository::empty();
    models.proven("zebra", "");
    // Loaded first, as names go; several tenths of a second.
    models.colour("aardvark", "slow", &colour_manifest(false), "");
    let server = Settings::new(models.path()).start();
    // Every answer from the first on: unready, and once ready, ready for good.
    let mut seen = Vec::new();
    until("readiness", || {
        let answer = get("/readyz").send(server.admin);
        let zebra = &server.json("/v1/models/zebra")["versions"][0]["state"];
        seen.push((answer.status, answer.text(), zebra.clone()));
        (answer.status == 200).then_some(())
    });
    let (first, last) = (&seen[0], &seen[seen.len() - 1]);
    assert_eq!(first.0, 503, "{seen:#?}");
    assert_eq!((last.0, &last.2), (200, &json!("serving")));
    assert!(seen.iter().all(|it| it.0 == 503 || it.2 == "serving"), "{seen:#?}");
    let waits = |it: &&(u16, String, Value)| it.1.contains("zebra version 1 is loading");
    assert!(seen.iter().filter(waits).any(|it| it.0 == 503), "{seen:#?}");
    assert_eq!(get("/readyz").send(server.data).status, 200);
    // Live all the while: asked now, as it cannot have been less so.
    assert_eq!(get("/livez").send(server.admin).status, 200);
}

#[test]
fn a_request_to_a_loading_model_is_told_so() {
    let models = Repository::empty();
    models.proven("zebra", "");
    models.colour("aardvark", "slow", &colour_manifest(false), "");
    let server = Settings::new(models.path()).start();
    let mut while_loading = 0;
    let answer = until("the first answer", || {
        let answer = server.send(&post("/v1/models/zebra/predict", png(GREEN)));
        if answer.status == 200 {
            return Some(answer);
        }
        // Before the repository is read, the model is not known yet.
        if answer.status != 404 {
            assert_eq!((answer.status, &*answer.verdict(0)), (503, "undecided/not_ready"));
            while_loading += 1;
        }
        None
    });
    assert_eq!(answer.verdict(0), "approve/ok");
    assert!(while_loading > 0, "aardvark takes long enough for a request to meet zebra loading");
}

#[test]
fn what_is_not_required_does_not_keep_the_server_from_being_ready() {
    let models = Repository::empty();
    models.proven("good", "");
    models.proven_by("bad/1", "colour", &colour_manifest(true), &wrong_score());
    models.file("bad/model.toml", "required = false\n");
    let server = Settings::new(models.path()).start();
    let ready = server.wait_for_status("/readyz?verbose=1", 200);
    assert!(ready.text().contains("bad version 1 failed"), "named all the same: {}", ready.text());
}

#[test]
fn nothing_that_serves_is_not_ready() {
    let models = Repository::empty();
    let server = Settings::new(models.path()).start();
    let ready = server.wait_for_status("/readyz", 503);
    assert!(ready.text().contains("no model serves"), "{}", ready.text());
    assert_eq!(get("/livez").send(server.admin).status, 200);
    let said = server.logged("no model serves");
    let why = "the model repository is empty: expected NAME/VERSION/model.onnx in it";
    assert_eq!((&said["level"], &said["reason"]), (&"ERROR".into(), &why.into()));
}

#[test]
fn models_of_other_tools_are_served_without_evidence() {
    let models = Repository::empty();
    let onnx = fs::read(onnx("colour")).unwrap();
    models.file("hf/config.json", r#"{"id2label": {"0": "red", "1": "green", "2": "blue"}}"#);
    models.file(
        "hf/preprocessor_config.json",
        r#"{"do_resize": true, "size": {"height": 32, "width": 32}, "resample": 2,
            "do_rescale": true, "rescale_factor": 0.00392156862745098,
            "do_normalize": true, "image_mean": [0.0, 0.0, 0.0], "image_std": [1.0, 1.0, 1.0],
            "image_processor_type": "ViTImageProcessor"}"#,
    );
    models.file("hf/onnx/model.onnx", &onnx);
    models.file("triton/1/model.onnx", &onnx).file("triton/config.pbtxt", "name: \"triton\"\n");
    models.bare("colour").bare("wide_mlp").bare("time_major_rnn");
    let server = Server::ready(models.path());
    for model in ["hf", "triton", "colour", "wide_mlp", "time_major_rnn"] {
        let version = &server.json(&format!("/v1/models/{model}"))["versions"][0];
        assert_eq!(version["state"], "serving", "{model}: {version}");
        assert_eq!(version["evidence"], "none", "{model}: {version}");
        assert_eq!(server.json(&format!("/v1/models/{model}/versions/1"))["verdicts"], false);
    }
    let answer = server.send(&post("/v1/models/hf/predict", png(RED)));
    assert_eq!((answer.status, &*answer.verdict(0)), (200, "null"), "{}", answer.text());
    assert_eq!(answer.json()["items"][0]["label"], "red");
    let answer = server.send(&post("/v1/models/triton/predict", png(RED)));
    assert_eq!(answer.json()["code"], "no_preprocessing");
}
