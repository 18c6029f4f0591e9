//! The real program, started as the manifests start it: probes, ports, settings, metrics and the end are what
//! they say.

use std::{collections::BTreeSet, path::Path, process::Command, time::Duration};

use serde_json::Value;

use crate::support::{
    client::{get, post},
    colours::{GREEN, png},
    manifests::{Contract, MANIFESTS, list, of_kind, pods, text},
    models::Repository,
    server::{linesight, run, until},
};

const PREDICT: &str = "/v1/models/colour/predict";

fn models() -> Repository {
    let models = Repository::empty();
    models.proven("colour", "");
    models
}

/// Everything in `deploy/` that starts the program.
fn contracts(models: &Path) -> Vec<Contract> {
    let of_pod = |(name, pod, documents)| Contract::of_pod(name, pod, documents, models);
    let mut all: Vec<Contract> = pods().map(of_pod).collect();
    let compose = &MANIFESTS["compose.yaml"][0]["services"]["linesight"];
    all.push(Contract::of_service(compose, models));
    assert_eq!(all.len(), 7 + 2 + 1, "kustomizations, KServe, compose");
    all
}

fn contract(models: &Path, name: &str) -> Contract {
    contracts(models).into_iter().find(|it| it.name == name).unwrap()
}

/// A duration of the settings in force.
fn setting(settings: &toml::Table, table: &str, key: &str) -> Duration {
    humantime::parse_duration(settings[table][key].as_str().unwrap()).unwrap()
}

/// The longest limit of the models that come with the server.
fn longest_limit() -> Duration {
    let text = std::fs::read_to_string("models/vial-defect/model.toml").unwrap();
    let settings: toml::Table = text.parse().unwrap();
    humantime::parse_duration(settings["budget"]["limit"].as_str().unwrap()).unwrap()
}

#[test]
fn settings_are_accepted_and_leave_time_for_what_is_in_flight() {
    let models = models();
    let limit = longest_limit();
    for contract in contracts(models.path()) {
        let name = &contract.name;
        let ran = run(&mut contract.command(&["--check-config"]));
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{name}");
        let ran = run(&mut contract.command(&["--print-config"]));
        let settings: toml::Table = ran.stdout.parse().unwrap();
        let delay = setting(&settings, "server", "drain_delay");
        let grace = setting(&settings, "server", "shutdown_grace");
        let body = setting(&settings, "http", "body_timeout");
        // The slowest request that may be let in at the last moment, and its answer.
        assert!(body + limit <= grace, "{name}: {body:?} + {limit:?} <= {grace:?}");
        // The kill comes after the end, a run in hand included.
        let end = delay + grace + limit;
        assert!(
            end <= contract.grace,
            "{name}: {delay:?} + {grace:?} + {limit:?} <= {:?}",
            contract.grace
        );
        let balanced = name != "compose";
        assert_eq!(Duration::ZERO < delay, balanced, "{name}: who balances looks away late");
    }
}

#[test]
fn probes_are_answered_on_the_ports_they_ask() {
    let models = models();
    // The overlays start it as the base does, in other places.
    for name in [
        "kubernetes/base",
        "kubernetes/overlays/gpu",
        "kserve/clusterservingruntime.yaml",
        "compose",
    ] {
        let contract = contract(models.path(), name);
        let server = contract.start();
        // Before the models are loaded, or while they are: not a moment in which it would be killed.
        for (kind, path, port) in contract.probes.iter().filter(|it| it.0 != "readinessProbe") {
            let answer = get(path).send(contract.address(&server, *port));
            assert_eq!(answer.status, 200, "{name}: {kind}: {}", answer.text());
        }
        let server = server.until_ready();
        for (kind, path, port) in &contract.probes {
            let answer = get(path).send(contract.address(&server, *port));
            assert_eq!(answer.status, 200, "{name}: {kind}: {}", answer.text());
        }
        for port in contract.ports.values() {
            let answer = get("/metrics").send(contract.address(&server, *port));
            assert_eq!(answer.status, 200, "{name}: {port}");
        }
        let answer = server.send(&post(PREDICT, png(GREEN)));
        assert_eq!((answer.status, &*answer.verdict(0)), (200, "approve/ok"), "{name}");
    }
}

#[test]
fn a_pod_that_has_to_go_says_so_and_answers_meanwhile() {
    let models = models();
    let contract = contract(models.path(), "kubernetes/base");
    let (_, path, port) =
        contract.probes.iter().find(|it| it.0 == "readinessProbe").expect("a readiness probe");
    let service = of_kind(&MANIFESTS["kubernetes/base"], "Service");
    let data = contract.ports[text(&service["spec"]["ports"][0]["targetPort"])];
    let server = contract.start().until_ready();
    server.signal("TERM");
    server.logged("stopping: no longer ready");
    let ready = get(path).send(contract.address(&server, *port));
    assert_eq!(ready.status, 503, "{}", ready.text());
    // Endpoints follow late: the Service still sends.
    let answer = post(PREDICT, png(GREEN)).send(contract.address(&server, data));
    assert_eq!((answer.status, &*answer.verdict(0)), (200, "approve/ok"));
    assert_eq!(server.wait().code(), Some(0));
}

/// Texts anywhere in a document.
fn texts<'a>(value: &'a Value, out: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => out.push(text),
        Value::Array(all) => all.iter().for_each(|it| texts(it, out)),
        Value::Object(all) => all.values().for_each(|it| texts(it, out)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[test]
fn every_metric_that_is_named_is_there() {
    let models = models();
    let contract = contract(models.path(), "kubernetes/overlays/monitoring");
    let server = contract.start().until_ready();
    let monitor = of_kind(&MANIFESTS["kubernetes/overlays/monitoring"], "PodMonitor");
    let endpoint = &monitor["spec"]["podMetricsEndpoints"][0];
    let port = contract.ports[text(&endpoint["port"])];
    let page = get(text(&endpoint["path"])).send(contract.address(&server, port)).text();
    let known: BTreeSet<&str> =
        page.lines().filter_map(|it| it.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let part = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    let mut by = BTreeSet::new();
    for (name, documents) in MANIFESTS.iter() {
        let mut found = Vec::new();
        documents.iter().for_each(|it| texts(it, &mut found));
        for word in found.iter().flat_map(|it| it.split(part)) {
            if word.starts_with("linesight_") || word.starts_with("process_") {
                assert!(known.contains(word), "{name}: there is no metric {word}");
                by.insert(name.as_str());
            }
        }
    }
    let expected = ["hpa", "hpa/prometheus-adapter.yaml", "keda"];
    assert_eq!(Vec::from_iter(by), expected.map(|it| format!("kubernetes/overlays/{it}")));
}

#[test]
fn models_out_of_an_image_are_served() {
    // The image has /models; the folder that is shared with the server is empty.
    let (image, volume) = (models(), Repository::empty());
    let deployment = of_kind(&MANIFESTS["kubernetes/overlays/models-init"], "Deployment");
    let init = &deployment["spec"]["template"]["spec"]["initContainers"][0];
    let mount = &init["volumeMounts"][0];
    assert_eq!((&mount["name"], &mount["mountPath"]), (&"models".into(), &"/mnt/models".into()));
    let command = list(&init["command"]).iter().map(|it| {
        let rest = text(it).strip_prefix("/mnt/models").map(|it| (volume.path().to_owned(), it));
        let rest =
            rest.or_else(|| Some((image.path().to_owned(), text(it).strip_prefix("/models")?)));
        rest.map_or_else(|| text(it).to_owned(), |(to, rest)| format!("{}{rest}", to.display()))
    });
    let command: Vec<String> = command.collect();
    // Twice: a pod whose sandbox is made anew runs it again.
    for _ in 0..2 {
        assert!(Command::new(&command[0]).args(&command[1..]).status().unwrap().success());
    }
    let contract = contract(volume.path(), "kubernetes/overlays/models-init");
    let server = contract.start().until_ready();
    assert_eq!(server.send(&post(PREDICT, png(GREEN))).verdict(0), "approve/ok");
}

/// Compose asks through the program itself, as its image has nothing else.
#[test]
fn the_health_check_of_compose_tells_ready_from_not() {
    let compose = &MANIFESTS["compose.yaml"][0]["services"]["linesight"];
    let test: Vec<&str> = list(&compose["healthcheck"]["test"]).iter().map(text).collect();
    assert_eq!(test[..2], ["CMD", "linesight"]);
    let models = models();
    let contract = contract(models.path(), "compose");
    let server = contract.start().until_ready();
    let ask = || {
        let mut command = linesight();
        command.args(&test[2..]);
        for (name, value) in &contract.env {
            let admin = name == "LINESIGHT_SERVER__ADMIN";
            command.env(name, if admin { server.admin.to_string() } else { contract.here(value) });
        }
        run(&mut command)
    };
    assert_eq!(ask().code, Some(0), "{:?}", ask());
    server.signal("TERM");
    until("the server to have stopped, and the check to say so", || {
        (ask().code != Some(0)).then_some(())
    });
}
