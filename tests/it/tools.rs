//! The commands: what they print, where, and how they exit.

use std::{fs, net::SocketAddr, path::Path, process::Command, time::Duration};

use serde_json::Value;

use crate::support::{
    client::{get, post},
    colours::{GREEN, GREY, NO_IMAGE, RED, png, scores, three},
    models::{Repository, colour_manifest, onnx},
    server::{Ran, Server, Settings, linesight, run, until},
};

/// Runs a command on a repository.
#[track_caller]
fn on(models: &Repository, arguments: &[&str]) -> Ran {
    run(linesight().args(arguments).args(["--cores", "1", "--models"]).arg(models.path()))
}

/// A folder with pictures: green, red, grey, and one that is none.
fn pictures() -> Repository {
    let folder = Repository::empty();
    folder.file("green.png", png(GREEN)).file("red.png", png(RED)).file("grey.png", png(GREY));
    folder.file("none.png", NO_IMAGE);
    folder
}

fn path(folder: &Repository, name: &str) -> String {
    folder.path().join(name).to_str().unwrap().to_owned()
}

#[test]
fn every_command_explains_itself() {
    for command in ["", "serve", "predict", "check", "init", "profile", "doctor", "openapi"] {
        let mut help = linesight();
        let help = help.args(Some(command).filter(|it| !it.is_empty())).arg("--help");
        let ran = run(help.env_remove("COLUMNS"));
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{command}");
        let name = if command.is_empty() { "linesight" } else { command };
        insta::assert_snapshot!(format!("help_{name}"), ran.stdout);
    }
    let ran = run(linesight().arg("--version"));
    assert_eq!(ran.stdout, format!("linesight {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(run(linesight().arg("dance")).code, Some(2));
    assert_eq!(run(linesight().arg("predict")).code, Some(2));
}

#[test]
fn predict_answers_as_the_server_does() {
    let (models, pictures) = (Repository::empty(), pictures());
    models.proven("colour", "");
    let files = ["green.png", "red.png", "grey.png"].map(|it| path(&pictures, it));
    let arguments = ["predict", "colour", &files[0], &files[1], &files[2]];

    let ran = on(&models, &arguments);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    let lines: Vec<Vec<&str>> =
        ran.stdout.lines().map(|it| it.split_whitespace().collect()).collect();
    assert_eq!(lines[0][..5], ["image", "verdict", "label", "score", "reason"]);
    for (line, (file, verdict, label, reason)) in lines[1..].iter().zip([
        (&files[0], "approve", "green", "ok"),
        (&files[1], "reject", "red", "defect"),
        (&files[2], "undecided", "red", "low_confidence"),
    ]) {
        assert_eq!([line[0], line[1], line[2], line[4]], [file, verdict, label, reason]);
    }

    let ran = on(&models, &[&arguments[..], &["--json"]].concat());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let server = Server::ready(models.path());
    for ((line, file), colour) in ran.stdout.lines().zip(&files).zip([GREEN, RED, GREY]) {
        let mine: Value = serde_json::from_str(line).unwrap();
        let answer = server.send(&post("/v1/models/colour/predict", png(colour))).json();
        assert_eq!(mine["path"], *file);
        assert_eq!(mine["model"], answer["model"]);
        for key in ["label", "scores", "verdict"] {
            assert_eq!(mine["items"][0][key], answer["items"][0][key], "{key}");
        }
        let best = mine["items"][0]["score"].as_f64().unwrap();
        let expected = scores(colour).into_iter().fold(0.0, f64::max);
        assert!((best - expected).abs() < 1e-3);
    }
}

#[test]
fn predict_fails_where_something_was_not_judged() {
    let (models, pictures) = (Repository::empty(), pictures());
    models.proven("colour", "").bare("wide_mlp");
    models.proven_by("failed/1", "colour", &colour_manifest(true), &three());
    models.file("failed/1/model.onnx", "no model");
    let [green, none] = ["green.png", "none.png"].map(|it| path(&pictures, it));
    let ran = on(&models, &["predict", "colour", &none, &green]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stdout.contains("undecided") && ran.stdout.contains("approve"), "{ran:?}");
    for (arguments, why) in [
        (["predict", "nobody", &green], "there is no model named nobody"),
        (["predict", "colour/9", &green], "version 9 is not there"),
        (["predict", "failed", &green], "ONNX Runtime cannot open model.onnx"),
        (["predict", "wide_mlp", &green], "no [preprocess] table"),
    ] {
        let ran = on(&models, &arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{arguments:?}");
        assert!(ran.stderr.contains(why), "{arguments:?}: {}", ran.stderr);
    }
    // A file that is not there is a line among the others, and the others are answered.
    let ran = on(&models, &["predict", "colour", "/no/such.png", &green]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stdout.contains("No such file") && ran.stdout.contains("approve"), "{ran:?}");
    assert_eq!(on(&models, &["predict", "co/lo/ur", &green]).code, Some(2));
}

#[test]
fn check_says_every_complaint_and_its_place() {
    let models = Repository::empty();
    models.proven("good", "").seal("good", "1");
    let ran = on(&models, &["check"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), ""), "{ran:?}");

    models
        .proven("flipped", "")
        .seal("flipped", "1")
        .file("flipped/1/golden/0-255-0.png", png(RED));
    models.proven("typo", "serve = \"1\"\n[budgett]\ntarget = \"1s\"\n");
    let manifest = colour_manifest(true).replace("approve_at = 0.9", "approve_at = 7.0");
    models.colour("policy", "colour", &manifest, "[runtime]\nlanes = 0\n");
    let ran = on(&models, &["check"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    for place in [
        "flipped/1/golden/0-255-0.png: ",
        "typo/model.toml:2:",
        "policy/1/package.toml:",
        "policy/model.toml:2:",
    ] {
        assert!(ran.stdout.lines().any(|it| it.starts_with(place)), "{place}: {ran:?}");
    }
    assert!(!ran.stdout.contains("good/"), "{ran:?}");
    // One model, one version, and what is not there.
    assert_eq!(run(linesight().arg("check").arg(models.path().join("good"))).code, Some(0));
    assert_eq!(run(linesight().arg("check").arg(models.path().join("flipped/1"))).code, Some(1));
    let ran = run(linesight().args(["check", "/no/such/folder"]));
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("/no/such/folder"), "{ran:?}");
}

#[test]
fn init_makes_a_package_that_checks_and_serves() {
    let models = Repository::empty();
    let bare = onnx("colour");
    let init = ["init", bare.to_str().unwrap(), "--name", "mine"];
    let ran = on(&models, &init);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(
        ran.stdout.contains("input   image") && ran.stdout.contains("linesight check"),
        "{ran:?}"
    );
    let ran = on(&models, &["check"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), ""), "{ran:?}");
    // Nothing is overwritten.
    let manifest = models.path().join("mine/1/package.toml");
    fs::write(&manifest, fs::read_to_string(&manifest).unwrap().replace("class_1", "green"))
        .unwrap();
    let ran = on(&models, &init);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("nothing is overwritten"), "{ran:?}");

    let server = Server::ready(models.path());
    let answer = server.send(&post("/v1/models/mine/predict", png(GREEN)));
    assert_eq!((answer.status, &*answer.verdict(0)), (200, "null"), "{}", answer.text());
    assert_eq!(answer.json()["items"][0]["label"], "green");

    let ran = on(&models, &["init", "Cargo.toml"]);
    assert_eq!(ran.code, Some(1), "no model: {ran:?}");
    assert!(!models.path().join("Cargo").exists(), "and nothing of it is left");
}

#[test]
fn doctor_says_what_there_is_and_whether_it_is_well() {
    let models = Repository::empty();
    models.proven("colour", "").seal("colour", "1");
    let ran = on(&models, &["doctor", "--json"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report["linesight"], env!("CARGO_PKG_VERSION"));
    assert!(report["onnxruntime"]["version"].as_str().unwrap().starts_with("1."), "{report}");
    assert_eq!(report["host"]["cores"], 1);
    let model = &report["models"][0];
    assert_eq!((&model["model"], &model["state"]), (&"colour".into(), &"serving".into()));
    assert_eq!(model["evidence"], "golden");
    let table = on(&models, &["doctor"]);
    assert!(table.stdout.contains("onnxruntime.version"), "{table:?}");

    flip_a_golden_score(models.path());
    let ran = on(&models, &["doctor", "--json"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report["models"][0]["state"], "failed");
    assert!(report["models"][0]["reason"].as_str().unwrap().contains("golden.json"), "{report}");
}

#[test]
fn doctor_asks_a_running_server_whether_it_is_ready() {
    let ask = |admin: SocketAddr| {
        let admin = admin.to_string();
        run(linesight().args(["doctor", "--ready"]).env("LINESIGHT_SERVER__ADMIN", admin))
    };
    let models = Repository::empty();
    models.proven("colour", "");
    let server = Server::ready(models.path());
    let ran = ask(server.admin);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    // A listener on every address is asked on this machine.
    let everywhere = SocketAddr::from(([0, 0, 0, 0], server.admin.port()));
    assert_eq!(ask(everywhere).code, Some(0));

    let admin = server.admin;
    drop(server);
    let ran = ask(admin);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
    assert!(
        ran.stderr.contains(&format!("no answer from the admin listener at {admin}")),
        "{ran:?}"
    );

    let empty = Settings::new(Repository::empty().path()).start();
    empty.wait_for_status("/readyz", 503);
    let ran = until("the reason why nothing serves", || {
        Some(ask(empty.admin)).filter(|it| it.stdout.contains("no model serves"))
    });
    assert_eq!(ran.code, Some(1), "{ran:?}");
}

/// Makes the seal untrue.
fn flip_a_golden_score(models: &Path) {
    let list = models.join("colour/1/golden/golden.json");
    let text = fs::read_to_string(&list).unwrap().replacen("0.", "1.", 1);
    fs::write(list, text).unwrap();
}

#[test]
fn openapi_is_what_the_server_serves() {
    let models = Repository::empty();
    models.proven("colour", "");
    let printed = run(linesight().arg("openapi"));
    assert_eq!(printed.code, Some(0));
    let printed: Value = serde_json::from_str(&printed.stdout).unwrap();
    let served = get("/openapi.json").send(Server::ready(models.path()).data).json();
    assert_eq!(printed, served);
}

#[test]
fn settings_are_printed_and_checked_without_serving() {
    let ran = run(linesight().args(["serve", "--print-config", "--cores", "3"]));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let printed: toml::Table = ran.stdout.parse().unwrap();
    assert_eq!(printed["runtime"]["cores"].to_string().trim_matches('"'), "3");
    assert_eq!(printed["server"]["data"].as_str(), Some("127.0.0.1:8080"));
    // What is printed is a configuration, and means the same.
    let folder = Repository::empty();
    folder.file("printed.toml", &ran.stdout);
    let printed = path(&folder, "printed.toml");
    let again = run(linesight().args(["serve", "--print-config", "--config", &printed]));
    assert_eq!(again.stdout, ran.stdout);
    let ran = run(linesight().args(["serve", "--check-config", "--config", &printed]));
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), "", ""));

    folder.file("bad.toml", "[http]\nmax_bodyy = 3\n\n[server]\n  data = 5\n");
    let bad = path(&folder, "bad.toml");
    for command in ["serve", "check", "doctor"] {
        let ran = run(linesight().args([command, "--config", &bad]));
        assert_eq!(ran.code, Some(78), "{command}: {ran:?}");
        for complaint in [
            format!("{bad}:2:1: unknown key \"http.max_bodyy\"; did you mean http.max_body?"),
            format!("{bad}:5:10: server.data is an integer, not a string"),
        ] {
            assert!(ran.stderr.contains(&complaint), "{command}: {}", ran.stderr);
        }
    }
    let mut misspelt = linesight();
    misspelt.args(["serve", "--check-config"]).env("LINESIGHT_HTTP__MAX_BODYY", "3");
    let ran = run(&mut misspelt);
    assert_eq!(ran.code, Some(78));
    assert!(ran.stderr.contains("LINESIGHT_HTTP__MAX_BODYY"), "{ran:?}");
}

/// A library that calls itself an ONNX Runtime of this version.
fn pretender(folder: &Repository, version: &str) -> String {
    let source = format!(
        "static const char *version(void) {{ return \"{version}\"; }}\n\
         static struct {{ void *api; const char *(*version)(void); }} base = {{ 0, version }};\n\
         void *OrtGetApiBase(void) {{ return &base; }}\n"
    );
    folder.file("old.c", source);
    let library = path(folder, "old.so");
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-o", &library]).arg(folder.path().join("old.c"));
    assert!(cc.status().unwrap().success());
    library
}

#[test]
fn without_a_usable_onnx_runtime_there_is_one_line_and_an_end() {
    let models = Repository::empty();
    models.proven("colour", "");
    let folder = pictures();
    let old = pretender(&folder, "1.20.2");
    let [text, green] = ["none.png", "green.png"].map(|it| path(&folder, it));
    let bare = onnx("colour");
    let commands: [&[&str]; 4] = [
        &["serve", "--data", "127.0.0.1:0", "--admin", "127.0.0.1:0"],
        &["predict", "colour", &green],
        &["doctor"],
        &["init", bare.to_str().unwrap()],
    ];
    for (library, why) in [
        ("/no/such/library.so", "there is no ONNX Runtime library at `/no/such/library.so`"),
        (&*text, "is not a usable ONNX Runtime library"),
        (&*old, "is ONNX Runtime 1.20.2,"),
    ] {
        for command in commands {
            let arguments =
                [command, &["--log-level", "error", "--onnxruntime-lib", library]].concat();
            let ran = on(&models, &arguments);
            assert_eq!((ran.code, ran.stdout.as_str()), (Some(78), ""), "{arguments:?}: {ran:?}");
            assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
            for part in [why, "1.23 or newer", "make runtime"] {
                assert!(ran.stderr.contains(part), "{part}: {}", ran.stderr);
            }
            // Two seconds is the promise; a busy machine gets some more.
            assert!(ran.took < Duration::from_secs(5), "{:?}", ran.took);
        }
    }
}

#[test]
fn an_address_that_is_taken_is_said_and_the_process_ends() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let models = Repository::empty();
    for (flag, other) in [("--data", "--admin"), ("--admin", "--data")] {
        let ran = on(&models, &["serve", flag, &address, other, "127.0.0.1:0"]);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        let line = ran.stderr.lines().last().unwrap();
        assert!(line.contains(&format!("cannot listen on {address}")), "{line}");
    }
    let ran = run(linesight().args([
        "serve",
        "--data",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--models",
        "/no/such",
    ]));
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(
        ran.stderr.lines().last().unwrap().contains("cannot list the model repository"),
        "{ran:?}"
    );
}
