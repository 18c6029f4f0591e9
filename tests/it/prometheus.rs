//! A real Prometheus scrapes a real server; promtool reads what it scrapes; labels stay bounded.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    net::TcpListener,
    process::{Child, Stdio},
};

use crate::support::{
    client::{Request, get, post},
    colours::{GREEN, GREY, NO_IMAGE, RED, png},
    models::{Repository, colour_manifest},
    programs::prometheus as program,
    server::{Server, until},
};

const PREDICT: &str = "/v1/models/colour/predict";

/// A server that has answered well and badly, so that many series are there.
fn busy() -> (Repository, Server) {
    let models = Repository::empty();
    models.proven("colour", "").colour("plain", "colour", &colour_manifest(false), "");
    models.proven("bad", "required = false\n").file("bad/1/model.onnx", "no model");
    models.bare("wide_mlp");
    let server = Server::ready(models.path());
    for colour in [GREEN, RED, GREY] {
        assert_eq!(server.send(&post(PREDICT, png(colour))).status, 200);
    }
    server.send(&post(PREDICT, NO_IMAGE));
    server.send(&post("/v1/models/nobody/predict", png(GREEN)).header("X-Item-Id", "vial-7"));
    server.send(&get("/secret/path"));
    (models, server)
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _has_ended_already = self.0.kill();
        let _was_waited_for_already = self.0.wait();
    }
}

#[test]
fn a_real_prometheus_scrapes_and_answers() {
    let (_models, server) = busy();
    let folder = Repository::empty();
    let (target, job) = (server.admin, "linesight");
    folder.file(
        "prometheus.yml",
        format!(
            "global: {{scrape_interval: 200ms, scrape_timeout: 200ms}}\n\
             scrape_configs: [{{job_name: {job}, static_configs: [{{targets: ['{target}']}}]}}]\n"
        ),
    );
    // It takes no port 0, so it is given one that was free a moment ago; another, if it is gone.
    let (prometheus, address) = until("Prometheus to start", || {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let child = program("prometheus")
            .arg(format!("--config.file={}", folder.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={free}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut child = Killed(child);
        until("Prometheus to be ready, or to give up", || {
            if let Some(_ended) = child.0.try_wait().unwrap() {
                return Some(false);
            }
            get("/-/ready").try_send(free).is_ok_and(|it| it.status == 200).then_some(true)
        })
        .then_some((child, free))
    });
    let ask = |query: &str| {
        let answer = get(&format!("/api/v1/query?query={query}")).send(address);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["data"]["result"].clone()
    };
    // The one sample of a vector, as text.
    let value = |query: &str| ask(query)[0]["value"][1].as_str().map(str::to_owned);
    until("the target to be up", || (value("up")? == "1").then_some(()));
    let items = "linesight_items_total{model=\"colour\",outcome=\"ok\"}";
    let encoded = items.replace('{', "%7B").replace('}', "%7D").replace('"', "%22");
    assert_eq!(until("the items", || value(&encoded)), "3");
    // The rule that design.md gives for every model.
    let slo = "sum%20by%20(model)(linesight_budget_items_total%7Btier=%22target%22%7D)";
    let all = ask(slo);
    let of_colour = all.as_array().unwrap().iter().find(|it| it["metric"]["model"] == "colour");
    assert_eq!(of_colour.unwrap()["value"][1], "3", "{all}");
    let targets = get("/api/v1/targets").send(address).json();
    assert_eq!(targets["data"]["activeTargets"][0]["lastError"], "", "{targets}");
    drop(prometheus);
}

#[test]
fn promtool_is_content() {
    let (_models, server) = busy();
    for address in [server.admin, server.data] {
        let answer = get("/metrics").send(address);
        assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        let mut child = program("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&answer.body).unwrap();
        let ran = child.wait_with_output().unwrap();
        let said = [ran.stdout, ran.stderr].concat();
        assert_eq!(String::from_utf8_lossy(&said), "");
        assert!(ran.status.success());
    }
}

/// Every label there may be, and what it may say; `*` is what the repository or the build decides.
const LABELS: &[(&str, &str)] = &[
    ("code", "200 400 404 405 408 413 415 422 499 500 503 504"),
    ("decision", "approve reject undecided"),
    ("digest", "*"),
    ("evidence", "golden none"),
    ("label", "red green blue"),
    ("le", "*"),
    ("listener", "data admin"),
    ("model", "bad colour plain wide_mlp"),
    ("outcome", "ok invalid shed expired cancelled failed"),
    ("phase", "first_byte header body idle write"),
    ("provider", "cpu cuda tensorrt"),
    (
        "reason",
        "ok defect low_confidence views image_unreadable image_too_large output_invalid overloaded \
         deadline not_ready inference_failed shutting_down request_invalid queue burst bytes paced \
         full fits drained isolated",
    ),
    ("stage", "read queue decode infer decide write"),
    ("state", "open idle busy found loading serving failed lost"),
    ("tier", "target limit"),
    ("version", "*"),
    ("within", "true false"),
];

#[test]
fn no_label_says_what_a_client_chose() {
    let (_models, server) = busy();
    // Names a client can make up, in every place where it can.
    for number in 0..20 {
        let path = format!("/v1/models/made-up-{number}/predict");
        server.send(&post(&path, png(GREEN)).header("X-Request-Id", &format!("r{number}")));
        server.send(&post(&format!("{PREDICT}?outputs=o{number}"), png(GREEN)));
        server.send(&crate::support::client::request(&format!("VERB{number}"), PREDICT));
        server.send(&Request::form(PREDICT, &[("v", &format!("file-{number}"), &png(GREEN))]));
    }
    let text = get("/metrics").send(server.admin).text();
    let known: BTreeMap<&str, BTreeSet<&str>> =
        LABELS.iter().map(|(name, values)| (*name, values.split(' ').collect())).collect();
    let mut n_series = 0;
    for line in text.lines().filter(|it| !it.starts_with('#')) {
        n_series += 1;
        let Some((name, rest)) = line.split_once('{') else { continue };
        let (labels, _value) = rest.rsplit_once("} ").unwrap();
        for label in labels.split("\",") {
            let (label, value) = label.split_once("=\"").unwrap();
            let value = value.trim_end_matches('"');
            let values = known.get(label).unwrap_or_else(|| panic!("{name} has a label {label}"));
            assert!(values.contains("*") || values.contains(value), "{name}: {label}={value}");
        }
        assert!(name.starts_with("linesight_") || name.starts_with("process_"), "{name}");
        if name.starts_with("linesight_items") || name.starts_with("linesight_verdicts") {
            assert!(line.contains("model=") && line.contains("version="), "{line}");
        }
    }
    assert!((100..2000).contains(&n_series), "{n_series} series");
}
