//! What a model runs on: asked for, tried, and said. The library that tests run with has no GPU's provider,
//! so these are the refusals and the processor; `scripts/gpu-check` does the rest where there is a GPU.

use linesight::{
    onnx::{Accelerator, Graph, OnnxError, Provider, SessionConfig},
    types::{NamedTensor, Tensor},
};
use serde_json::{Value, json};

use crate::support::{
    client::{get, post},
    colours::{GREEN, png},
    engines::ENVIRONMENT,
    models::{Repository, onnx},
    server::{Server, Settings, linesight, until},
};

const NO_CUDA: &str = "device = \"cuda\" in model.toml: this ONNX Runtime has no CUDA provider; \
                       fetch one that has (`make runtime-gpu`) and name it with --onnxruntime-lib, \
                       or set device = \"auto\"";

#[test]
fn a_gpu_that_is_not_there_is_not_replaced_by_the_processor() {
    for (device, why) in [
        ("cuda", NO_CUDA.to_owned()),
        ("tensorrt", NO_CUDA.replace("cuda", "tensorrt").replace("CUDA", "TensorRT")),
    ] {
        let models = Repository::empty();
        models.proven("good", "").proven("bad", &format!("[runtime]\ndevice = \"{device}\"\n"));
        let server = Settings::new(models.path()).start();
        let line = server.logged_that("not served", |it| it["model"] == "bad");
        assert_eq!(line["error"], json!(why));
        // The line in the log comes a moment before the state.
        let version = until("the version to have failed", || {
            let version = server.json("/v1/models/bad")["versions"][0].clone();
            (version["state"] == "failed").then_some(version)
        });
        assert_eq!(version["reason"], json!(why));
        let ready = server.wait_for_status("/readyz?verbose=1", 503);
        assert!(ready.text().contains("bad version 1 failed: device = "), "{}", ready.text());
        let answer = server.send(&post("/v1/models/bad/predict", png(GREEN)));
        assert_eq!((answer.status, &*answer.verdict(0)), (503, "undecided/not_ready"));
    }
}

#[test]
fn auto_takes_the_processor_where_there_is_no_gpu_and_says_so() {
    let models = Repository::empty();
    models.proven("colour", "[runtime]\ndevice = \"auto\"\ndevices = [0, 1]\n");
    let server = Server::ready(models.path());
    let line = server.logged("planned");
    assert_eq!((&line["level"], &line["provider"]), (&json!("INFO"), &json!("cpu")));
    assert_eq!(line["why_provider"], "this ONNX Runtime has no CUDA provider");
    let plan = &server.json("/v1/models/colour")["versions"][0]["plan"];
    assert_eq!((&plan["provider"], &plan["devices"]), (&json!("cpu"), &json!([])));
    assert_eq!(plan["nodes"], Value::Null, "the processor runs them all");
    let page = get("/metrics").send(server.admin).text();
    let info = page.lines().find(|it| it.starts_with("linesight_model_info{")).unwrap();
    assert!(info.contains("provider=\"cpu\""), "{info}");
    let answer = server.send(&post("/v1/models/colour/predict", png(GREEN)));
    assert_eq!(answer.verdict(0), "approve/ok");
}

#[test]
fn the_commands_say_what_computes() {
    let models = Repository::empty();
    models.proven("colour", "[runtime]\ndevice = \"cpu\"\n");
    let run = |command: &[&str]| -> Value {
        let output =
            linesight().args(command).args(["--json", "--models"]).arg(models.path()).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let doctor = run(&["doctor"]);
    assert_eq!(doctor["models"][0]["provider"], "cpu");
    assert!(doctor["host"]["gpus"].is_array());
    let profile = run(&["profile", "colour", "--threads", "1", "--batches", "1"]);
    assert_eq!((&profile["plan"]["provider"], &profile["gpu"]), (&json!("cpu"), &Value::Null));
    assert_eq!(profile["plan"]["why"]["provider"], "[runtime] device in model.toml");
}

#[test]
fn a_trace_tells_what_ran_every_node() {
    let model = std::fs::read(onnx("colour")).unwrap().into();
    let graph = Graph::optimise(&ENVIRONMENT, &model, SessionConfig::default()).unwrap();
    let input = &graph.signature().inputs[0];
    let tensor = Tensor::new(vec![1, 3, 32, 32], vec![0.5_f32; 3 * 32 * 32]).unwrap();
    let row = [NamedTensor { name: input.name.clone(), tensor }];
    let nodes = graph.count_nodes(&row).unwrap();
    assert!(nodes.all() > 0, "{nodes:?}");
    assert_eq!((nodes.of(Provider::Cpu), nodes.on_device()), (nodes.all(), 0));
    assert_eq!(nodes, graph.count_nodes(&row).unwrap());
}

#[test]
fn a_provider_that_is_not_there_is_an_error_and_not_the_processor() {
    let model = std::fs::read(onnx("colour")).unwrap().into();
    for provider in [Provider::Cuda, Provider::TensorRt] {
        assert!(!provider.is_built_in(&ENVIRONMENT));
        let accelerator = Accelerator { provider, devices: vec![3], memory: Some(1 << 30) };
        let opened = Graph::on_devices(&ENVIRONMENT, &model, SessionConfig::default(), accelerator);
        let (device, error) = opened.unwrap_err();
        assert_eq!(device, 3);
        assert!(matches!(error, OnnxError::Provider { .. }), "{error}");
    }
}
