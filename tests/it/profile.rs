//! What runs cost: the command that shows it, the file that remembers it, the plan made of it.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};

use crate::support::{
    models::{PATIENT, Repository, colour_manifest},
    server::{Ran, Server, Settings, linesight, run},
};

/// `linesight profile` on one core of a repository, without a cache.
#[track_caller]
fn profile(models: &Repository, arguments: &[&str]) -> Ran {
    let settings = ["--cores", "1", "--models", models.path().to_str().unwrap()];
    run(linesight().arg("profile").args(arguments).args(settings))
}

#[test]
fn the_table_and_the_plan_are_printed_and_drawn() {
    let models = Repository::empty();
    models.proven("colour", PATIENT).bare("wide_mlp");
    let ran = profile(&models, &["wide_mlp", "--batches", "1,4", "--json"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    let found: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&found["model"], &found["version"]), (&json!("wide_mlp"), &json!("1")));
    assert_eq!(found["cores"], 1);
    let runs = found["runs"].as_array().unwrap();
    let sizes: Vec<_> = runs.iter().map(|it| (&it["threads"], &it["batch"])).collect();
    assert_eq!(sizes, [(&json!(1), &json!(1)), (&json!(1), &json!(4))]);
    for it in runs {
        let (least, median) = (it["ms"].as_f64().unwrap(), it["median_ms"].as_f64().unwrap());
        assert!(0.0 < least && least <= median, "{it}");
        let per_item = least / it["batch"].as_f64().unwrap();
        assert!((it["ms_per_item"].as_f64().unwrap() - per_item).abs() < 1e-9, "{it}");
        let rate = 1e3 / per_item;
        assert!((it["items_per_second"].as_f64().unwrap() / rate - 1.0).abs() < 1e-3, "{it}");
        assert!(it["lane_bytes"].as_u64().unwrap() > 0, "{it}");
    }
    let plan = &found["plan"];
    assert_eq!((&plan["lanes"], &plan["threads_per_lane"]), (&json!(1), &json!(1)));
    assert_eq!(plan["max_batch"], 4, "sharing pays for this network: {found}");
    assert_eq!(plan["wide"], json!({"state": "one core", "ratio": null, "built": false}));
    for choice in ["lanes", "threads_per_lane", "max_batch", "wide"] {
        assert!(!plan["why"][choice].as_str().unwrap().is_empty(), "{choice}");
    }
    assert_eq!((&found["cached"], found["not_cached"].is_string()), (&json!(false), true));

    let chart = models.path().join("chart.svg");
    let ran =
        profile(&models, &["colour/1", "--batches", "1,2", "--plot", chart.to_str().unwrap()]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    for word in ["colour version 1 on 1 core of ", "ms an item", "Plan", "items a run", "wide lane"]
    {
        assert!(ran.stdout.contains(word), "{word}: {}", ran.stdout);
    }
    let chart = fs::read_to_string(chart).unwrap();
    assert!(chart.starts_with("<svg") && chart.contains("1 thread</text>"), "{chart}");
    assert_eq!(chart.matches("<circle").count(), 2);
}

#[test]
fn what_cannot_be_measured_is_said() {
    let models = Repository::empty();
    models.bare("wide_mlp").bare("time_major_rnn");
    models.colour("slow", "slow", &colour_manifest(false), PATIENT);
    for version in ["1", "2"] {
        models.file(&format!("two/{version}/model.onnx"), "no model");
    }
    models.file("wrong/1/model.onnx", "no model").file("wrong/model.toml", "serve = 1\n");
    models.bare("colour").file("lanes/model.toml", "[runtime]\nlanes = 2\n");
    models.file("lanes/1/model.onnx", "no model");
    for (arguments, why) in [
        (&["nobody"][..], "there is no model named nobody; there are colour, lanes, slow"),
        (&["wide_mlp", "--version", "9"], "wide_mlp has no version 9; there are 1"),
        (&["wide_mlp/1", "--version", "2"], "given as wide_mlp version 1, and --version 2"),
        (&["two"], "which version of two? there are 1, 2; say --version N"),
        (&["two", "--version", "2"], "ONNX Runtime cannot open model.onnx"),
        (&["wrong"], "wrong/model.toml:1:9: serve"),
        (&["lanes"], "[runtime] lanes = 2 in model.toml is more than the 1"),
        (&["wide_mlp", "--threads", "1,2"], "2 threads are more than the 1 cores"),
        (&["wide_mlp", "--batches", "4096"], "4096 rows a run; at most 1024"),
        (
            &["slow", "--batches", "2"],
            "runs of 2 rows on 1 threads cannot be used: axis 0 of input",
        ),
        (&["time_major_rnn", "--batches", "4"], "of output y is not what it is alone"),
        (
            &["wide_mlp", "--plot", "/no/such/folder/x.svg", "--batches", "1"],
            "writing /no/such/folder",
        ),
    ] {
        let ran = profile(&models, arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{arguments:?}: {ran:?}");
        assert!(ran.stderr.contains(why), "{arguments:?}: {}", ran.stderr);
    }
    for wrong in [["--threads", "0"], ["--batches", "1,x"]] {
        assert_eq!(profile(&models, &[&["wide_mlp"][..], &wrong].concat()).code, Some(2));
    }
    // Where nobody asked for more, one row is all there is, and that is no failure.
    let ran = profile(&models, &["time_major_rnn"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("Items may not share a run: row "), "{}", ran.stdout);
}

/// A repository, and a folder for what is remembered of it.
struct World {
    models: Repository,
    cache: Repository,
}

impl World {
    fn new() -> Self {
        Self { models: Repository::empty(), cache: Repository::empty() }
    }

    fn settings(&self) -> Settings {
        let folder = self.cache.path().to_str().unwrap();
        Settings::new(self.models.path()).set("LINESIGHT_MODELS__CACHE", folder)
    }

    fn start(&self) -> Server {
        self.settings().ready()
    }

    /// The one file there is.
    fn file(&self) -> PathBuf {
        let all: Vec<PathBuf> =
            fs::read_dir(self.cache.path()).unwrap().map(|it| it.unwrap().path()).collect();
        assert_eq!(all.len(), 1, "{all:?}");
        all[0].clone()
    }

    /// Makes sure that there is one, by what a quiet machine would have written: a busy one does not
    /// remember what it measured.
    fn remember(&self) -> Value {
        for _ in 0..20 {
            drop(self.start());
            if fs::read_dir(self.cache.path()).unwrap().next().is_some() {
                return serde_json::from_slice(&fs::read(self.file()).unwrap()).unwrap();
            }
        }
        panic!("never a quiet moment in twenty starts");
    }

    fn change(&self, change: impl FnOnce(&mut Value)) {
        let file = self.file();
        let mut value: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        change(&mut value);
        fs::write(file, value.to_string()).unwrap();
    }
}

fn measured(server: &Server) -> Value {
    server.logged("measured")
}

fn left_aside(server: &Server) -> Option<String> {
    let lines = server.log_so_far();
    lines.into_iter().find(|it| it.contains("a cached profile is left aside"))
}

#[test]
fn a_second_start_remembers_what_the_first_has_measured() {
    let world = World::new();
    world.models.proven("colour", PATIENT);
    let file = world.remember();
    let single = file["runs"][0]["nanos"].as_u64().unwrap();
    assert_eq!((&file["runs"][0]["threads"], &file["runs"][0]["batch"]), (&json!(1), &json!(1)));
    let server = world.start();
    let line = measured(&server);
    assert_eq!(line["remembered"], true, "{:#?}", server.log_so_far());
    let shown = format!("1: {:.2} ms", Duration::from_nanos(single).as_secs_f64() * 1e3);
    assert!(line["run_times"].as_str().unwrap().starts_with(&shown), "{line} {single}");
    assert_eq!(left_aside(&server), None);
    // The golden samples are answered all the same.
    let ran = "linesight_batch_size_count{model=\"colour\",version=\"1\"}";
    assert!(server.metric(ran) >= 3);
    // Another number of cores is another file: neither spoils the other.
    drop(world.settings().cores("2").ready());
    let names = fs::read_dir(world.cache.path()).unwrap().map(|it| it.unwrap().file_name());
    let first = names.filter(|it| it.to_str().unwrap().ends_with("-1c.json")).count();
    assert_eq!(first, 1);
}

#[test]
fn a_file_that_cannot_be_used_is_left_aside_and_the_model_serves() {
    let world = World::new();
    world.models.proven("colour", PATIENT);
    world.remember();
    let path = world.file();
    let whole = fs::read(&path).unwrap();
    let spoil = |what: &str, spoil: &dyn Fn(&Path)| {
        spoil(&path);
        let server = world.start();
        assert_eq!(measured(&server)["remembered"], false, "{what}");
        let line = left_aside(&server).unwrap_or_default();
        assert!(line.contains(what) && line.contains(path.to_str().unwrap()), "{what}: {line}");
        fs::write(&path, &whole).unwrap();
    };
    spoil("it is damaged", &|path| fs::write(path, &whole[..whole.len() / 2]).unwrap());
    spoil("it is damaged", &|path| fs::write(path, b"\xff\x00").unwrap());
    spoil("it is of another processor", &|_| {
        world.change(|it| it["key"]["cpu"] = json!("another"));
    });
    spoil("it is of another ONNX Runtime", &|_| {
        world.change(|it| it["key"]["onnxruntime"] = json!("1.0.0"));
    });
    spoil("its figures are not plausible", &|_| {
        world.change(|it| it["runs"][0]["nanos"] = json!(0));
    });
    spoil("it is of format 99", &|_| world.change(|it| it["format"] = json!(99)));
}

#[test]
fn a_run_time_the_golden_samples_refute_is_measured_anew() {
    let world = World::new();
    world.models.proven("colour", PATIENT);
    world.remember();
    // Ten seconds a row: plausible as such, and longer than any machine takes.
    world.change(|it| {
        for run in it["runs"].as_array_mut().unwrap() {
            run["nanos"] = json!(10_000_000_000_u64);
        }
    });
    let server = world.start();
    server.logged_that("planned", |it| it["model"] == "colour");
    let said = server.log_so_far();
    let refuted = said.iter().any(|it| it.contains("golden samples run at another speed"));
    assert!(refuted, "{said:#?}");
    let times = measured(&server)["run_times"].clone();
    assert!(!times.as_str().unwrap().contains("10000.00 ms"), "{times}");
}

#[test]
fn what_is_remembered_does_not_stand_in_for_the_proof() {
    let world = World::new();
    world.models.bare("time_major_rnn");
    world.remember();
    // As if sharing had been proven, and paid.
    world.change(|it| {
        it["sharing_refused"] = Value::Null;
        let single = it["runs"][0].clone();
        for batch in [2, 4, 8, 16, 32] {
            let mut run = single.clone();
            run["batch"] = json!(batch);
            it["runs"].as_array_mut().unwrap().push(run);
        }
    });
    let server = world.start();
    let line = measured(&server);
    assert_eq!(left_aside(&server), None, "the file itself is plausible");
    assert_eq!(line["max_batch"], 1, "{line}");
    assert!(line["sharing"].as_str().unwrap().contains("is not what it is alone"), "{line}");
}

#[test]
fn a_folder_that_cannot_be_written_to_costs_nothing_but_time() {
    let world = World::new();
    world.models.proven("colour", PATIENT);
    let nowhere = world.models.path().join("colour/model.toml/cache");
    let settings = Settings::new(world.models.path());
    let server = settings.set("LINESIGHT_MODELS__CACHE", nowhere.to_str().unwrap()).ready();
    assert_eq!(measured(&server)["remembered"], false);
    let loud = ["WARN", "ERROR"].map(|it| format!("\"level\":\"{it}\""));
    let said = server.log_so_far();
    assert!(!said.iter().any(|it| loud.iter().any(|level| it.contains(level))), "{said:#?}");
}

#[test]
fn the_plan_is_logged_shown_and_exported() {
    let models = Repository::empty();
    models.colour(
        "colour",
        "colour",
        &colour_manifest(false),
        "[runtime]\nlanes = 1\nmax_batch = 4\n",
    );
    let server = Settings::new(models.path()).cores("2").ready();
    let line = server.logged("planned");
    let process = server.logged("plan");
    assert_eq!((&process["cores"], &process["edge_threads"]), (&json!(2), &json!(1)));
    assert_eq!(process["decoding"], "on the lanes");
    let shown = &server.json("/v1/models/colour")["versions"][0]["plan"];
    let detail = &server.json("/v1/models/colour/versions/1")["plan"];
    assert_eq!(shown, detail);
    for key in ["provider", "lanes", "threads_per_lane", "max_batch", "lane_bytes", "wide"] {
        assert_eq!(line[key], shown[key], "{key}: {line}");
    }
    assert_eq!((&shown["lanes"], &shown["max_batch"]), (&json!(1), &json!(4)));
    assert_eq!(line["why_lanes"], "[runtime] lanes in model.toml");
    assert!(["worth it, not built", "not worth it"].contains(&shown["wide"].as_str().unwrap()));
    for (metric, key) in [
        ("lanes", "lanes"),
        ("lane_threads", "threads_per_lane"),
        ("max_batch", "max_batch"),
        ("lane_memory_bytes", "lane_bytes"),
    ] {
        let sample = format!("linesight_plan_{metric}{{model=\"colour\",version=\"1\"}}");
        assert_eq!(server.metric(&sample), shown[key].as_u64().unwrap(), "{metric}");
    }
}

#[test]
fn a_lane_keeps_to_the_memory_it_is_given() {
    // What the network takes without a bound says what bound to set.
    let models = Repository::empty();
    let onnx = fs::read(crate::support::models::onnx("wide_mlp")).unwrap();
    models.file("mlp/1/model.onnx", &onnx).file("mlp/model.toml", PATIENT);
    let plan = |models: &Repository| {
        let server = Server::ready(models.path());
        let plan = &server.json("/v1/models/mlp")["versions"][0]["plan"];
        let figure = |key: &str| plan[key].as_u64().unwrap();
        (figure("max_batch"), figure("lane_bytes"))
    };
    let (free, bytes) = plan(&models);
    assert!(free >= 4, "sharing pays for this network: {free}");
    let bound = |key: &str| format!("{PATIENT}[runtime]\nmemory = \"{}\"\n{key}", bytes - 1);
    for key in ["", "max_batch = 32\n"] {
        models.file("mlp/model.toml", bound(key));
        let (bounded, needed) = plan(&models);
        assert!(bounded < free && needed < bytes, "{bounded} {needed}, free {free} {bytes}");
    }
}
