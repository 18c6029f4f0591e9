//! Requests and their answers, over the socket: forms of bodies, ids, queries, what is served.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use linesight::types::Digest;
use serde_json::{Value, json};

use crate::support::{
    client::{Answer, Connection, Request, post, request, verdict_of},
    colours::{GREEN, GREY, LABELS, NO_IMAGE, RED, png, scores},
    models::{Repository, colour_manifest},
    server::{Server, Settings},
};

pub(crate) const PREDICT: &str = "/v1/models/colour/predict";
pub(crate) const INSPECT: &str = "/v1/models/colour/inspect";
pub(crate) const MAX_BODY: usize = 1 << 20;

/// A server, and the folder it serves; both go with the test.
pub(crate) struct Served {
    pub(crate) server: Server,
    /// Held so that the folder stays.
    pub(crate) _models: Repository,
}

/// `colour`: proven, sealed, verdicts. `two`: version 1 served, version 2 only there, no verdicts.
/// `colour_nan`: bare, so it takes no images.
pub(crate) fn served() -> Served {
    let models = Repository::empty();
    models.proven("colour", "").seal("colour", "1");
    models.colour("two", "colour", &colour_manifest(false), "serve = \"1\"\n");
    models.proven_by("two/2", "colour", &colour_manifest(true), &[]);
    models.bare("colour_nan");
    let server = Settings::new(models.path())
        .set("LINESIGHT_HTTP__MAX_BODY", "1MiB")
        .set("LINESIGHT_HTTP__MAX_IMAGES", "4")
        .ready();
    Served { server, _models: models }
}

/// Every answer has these, whatever it says.
#[track_caller]
pub(crate) fn assert_named_and_timed(answer: &Answer) {
    assert!(answer.header("x-request-id").is_some_and(|it| !it.is_empty()), "{answer:?}");
    let timing = answer.header("server-timing").unwrap_or_default();
    let total = timing.strip_prefix("total;dur=").unwrap_or_else(|| panic!("{answer:?}"));
    let number = total.split(',').next().unwrap();
    assert!(number.parse::<f64>().is_ok_and(|it| it > 0.0), "{timing}");
}

/// A refusal: its code, and in it nothing approved.
#[track_caller]
pub(crate) fn assert_refused(answer: &Answer, status: u16, code: &str, reason: &str) -> Value {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_named_and_timed(answer);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let problem = answer.json();
    assert_eq!(problem["code"], code, "{problem}");
    assert_eq!(problem["status"], status, "{problem}");
    assert_eq!(problem["type"], format!("urn:linesight:error:{code}"));
    assert_eq!(problem["instance"], answer.header("x-request-id").unwrap());
    let items = problem["items"].as_array().expect("items");
    assert!(!items.is_empty(), "{problem}");
    for (position, item) in items.iter().enumerate() {
        assert_eq!(item["position"], position, "{problem}");
        assert_eq!(item["verdict"]["decision"], "undecided", "{problem}");
    }
    assert_eq!(verdict_of(&items[0]), format!("undecided/{reason}"), "{problem}");
    problem
}

#[track_caller]
fn assert_scores(answer: &Answer, position: usize, colour: [u8; 3]) {
    for (label, expected) in LABELS.iter().zip(scores(colour)) {
        let found = answer.score(position, label);
        assert!((found - expected).abs() < 1e-3, "{label}: {found}, expected {expected}");
    }
}

pub(crate) fn json_images(images: &[Value]) -> Value {
    json!({ "images": images })
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

#[test]
fn a_raw_body_is_recognised_whatever_its_declared_type() {
    let Served { server, _models } = served();
    let types = [
        None,
        Some("image/png"),
        Some("image/jpeg"),
        Some("IMAGE/PNG"),
        Some("application/octet-stream"),
        // What `curl --data-binary @file` says.
        Some("application/x-www-form-urlencoded"),
    ];
    for declared in types {
        let mut request = post(PREDICT, png(RED));
        if let Some(declared) = declared {
            request = request.header("Content-Type", declared);
        }
        let answer = server.send(&request);
        assert_eq!(answer.status, 200, "{declared:?}: {}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.verdict(0), "reject/defect", "{declared:?}");
        assert_scores(&answer, 0, RED);
    }
    let image = request("POST", PREDICT).header("Transfer-Encoding", "chunked");
    let mut connection = Connection::open(server.data).unwrap();
    connection.write(&image.bytes());
    for piece in png(GREEN).chunks(20) {
        connection.write(format!("{:x}\r\n", piece.len()).as_bytes());
        connection.write(piece);
        connection.write(b"\r\n");
    }
    let answer = connection.exchange(b"0\r\n\r\n").unwrap();
    assert_eq!((answer.status, &*answer.verdict(0)), (200, "approve/ok"), "in pieces");
}

#[test]
fn an_answer_says_who_judged_and_how_long_it_took() {
    let Served { server, _models } = served();
    let sent = post(PREDICT, png(RED))
        .header("X-Request-Id", "line-4.cam_2")
        .header("X-Item-Id", "vial:7")
        .header("X-Acquisition-Id", "shot-9");
    let answer = server.send(&sent);
    assert_named_and_timed(&answer);
    assert_eq!(answer.header("x-request-id"), Some("line-4.cam_2"));
    let timing = answer.header("server-timing").unwrap();
    for stage in ["read", "queue", "decode", "infer"] {
        assert!(timing.contains(&format!(", {stage};dur=")), "{timing}");
    }
    let body = answer.json();
    assert_eq!(body["request_id"], "line-4.cam_2");
    let card = std::fs::read(_models.path().join("colour/1/card.json")).unwrap();
    let digest = format!("sha256:{}", Digest::of(&card).hex());
    assert_eq!(
        body["model"],
        json!({"name": "colour", "version": "1", "digest": digest, "evidence": "golden"})
    );
    let item = &body["items"][0];
    assert_eq!((&item["item_id"], &item["acquisition_id"]), (&json!("vial:7"), &json!("shot-9")));
    assert_eq!((&item["position"], &item["label"]), (&json!(0), &json!("red")));
    assert_eq!(item["explanation"], Value::Null);
    let verdict = &item["verdict"];
    assert_eq!((&verdict["class"], &verdict["threshold"]), (&json!("red"), &json!(0.5)));
    assert_eq!(item["timing"]["batch_size"], 1);
    let timing = &body["timing"];
    assert_eq!((&timing["target_ms"], &timing["limit_ms"]), (&json!(600), &json!(3000)));
    assert_eq!(timing["within_target"], true);
    let (total, wall) = (timing["total_ms"].as_f64().unwrap(), timing["wall_ms"].as_f64().unwrap());
    assert!(0.0 < total && total <= wall, "{timing}");

    // Without ids of the client's, the server's own are unique.
    let ids = [(); 2].map(|()| {
        let body = server.send(&post(PREDICT, png(RED))).json();
        (body["request_id"].clone(), body["items"][0]["item_id"].clone())
    });
    assert_eq!(ids[0].1.as_str().unwrap().len(), 26, "{ids:?}");
    assert!(ids[0].0 != ids[1].0 && ids[0].1 != ids[1].1, "{ids:?}");
    // What is no id does not come back.
    let answer = server.send(&post(PREDICT, png(RED)).header("X-Request-Id", "a b"));
    assert_ne!(answer.header("x-request-id"), Some("a b"));
}

#[test]
fn each_image_of_a_form_or_a_list_is_an_item() {
    let Served { server, _models } = served();
    let (green, red, grey) = (png(GREEN), png(RED), png(GREY));
    let form = Request::form(
        PREDICT,
        &[("a", "vial-1.png", &green), ("a", "vial 2.png", &red), ("b", "", &grey)],
    );
    let list = Request::json(
        PREDICT,
        &json_images(&[
            json!({"id": "vial-1.png", "base64": base64(&green)}),
            json!({"view": "left", "base64": base64(&red).trim_end_matches('=')}),
            json!({"acquisition_id": "shot-1", "base64": base64(&grey)}),
        ]),
    );
    for (what, request) in [("form", form), ("list", list)] {
        let answer = server.send(&request);
        assert_eq!(answer.status, 200, "{what}: {}", answer.text());
        let expected = ["approve/ok", "reject/defect", "undecided/low_confidence"];
        for (position, (colour, verdict)) in
            [GREEN, RED, GREY].into_iter().zip(expected).enumerate()
        {
            assert_eq!(answer.verdict(position), verdict, "{what} {position}");
            assert_scores(&answer, position, colour);
        }
        let items = &answer.json()["items"];
        assert_eq!(items.as_array().unwrap().len(), 3);
        assert_eq!(items[0]["item_id"], "vial-1.png", "{what}");
        assert_ne!(items[1]["item_id"], items[2]["item_id"], "{what}");
        if what == "form" {
            assert_eq!(items[1]["file"], "vial 2.png");
        } else {
            assert_eq!(items[1]["view"], "left");
            assert_eq!(items[2]["acquisition_id"], "shot-1");
        }
    }
}

#[test]
fn some_unreadable_images_leave_the_others_judged_and_only_unreadable_ones_are_an_error() {
    let Served { server, _models } = served();
    let (green, mut cut) = (png(GREEN), png(RED));
    cut.truncate(cut.len() / 2);
    let mixed = [("a", "a", &green[..]), ("b", "b", NO_IMAGE), ("c", "c", &cut[..])];
    let answer = server.send(&Request::form(PREDICT, &mixed));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let expected = ["approve/ok", "undecided/image_unreadable", "undecided/image_unreadable"];
    for (position, verdict) in expected.into_iter().enumerate() {
        assert_eq!(answer.verdict(position), verdict);
    }
    let item = &answer.json()["items"][1];
    assert_eq!((&item["label"], &item["score"]), (&Value::Null, &Value::Null), "{item}");

    let answer = server.send(&Request::form(PREDICT, &mixed[1..]));
    let problem = assert_refused(&answer, 422, "image_unreadable", "image_unreadable");
    assert_eq!(problem["items"].as_array().unwrap().len(), 2, "{problem}");
    assert_eq!(problem["items"][1]["item_id"], "c", "{problem}");
    let answer = server.send(&post(PREDICT, cut.clone()));
    assert_refused(&answer, 422, "image_unreadable", "image_unreadable");

    // Of several failures the gravest gives the status: 413 before 422 before 415.
    let huge = png_header(50_000, 50_000);
    let all_bad = [("a", "a", NO_IMAGE), ("b", "b", &cut[..]), ("c", "c", &huge[..])];
    let problem = server.send(&Request::form(PREDICT, &all_bad));
    let problem = assert_refused(&problem, 413, "image_too_large", "image_unreadable");
    assert_eq!(verdict_of(&problem["items"][2]), "undecided/image_too_large");
}

/// The head of a PNG that claims to be of this size, and nothing after it.
fn png_header(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = png(RED);
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    let mut crc = !0_u32;
    for byte in &bytes[12..29] {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    bytes[29..33].copy_from_slice(&(!crc).to_be_bytes());
    bytes
}

#[test]
fn the_query_chooses_scores_and_outputs() {
    let Served { server, _models } = served();
    let ask = |query: &str| server.send(&post(&format!("{PREDICT}?{query}"), png(GREY)));
    for (query, n_scores) in
        [("top_k=1", 1), ("top_k=2", 2), ("top_k=all", 3), ("top_k=99", 3), ("explain=none", 3)]
    {
        let answer = ask(query);
        assert_eq!(answer.status, 200, "{query}: {}", answer.text());
        let item = &answer.json()["items"][0];
        assert_eq!(item["scores"].as_array().unwrap().len(), n_scores, "{query}");
        assert_eq!(verdict_of(item), "undecided/low_confidence", "{query}");
    }
    // Highest first.
    let answer = server.send(&post(PREDICT, png([255, 0, 128])));
    let item = &answer.json()["items"][0];
    let order: Vec<_> = item["scores"].as_array().unwrap().iter().map(|it| &it["label"]).collect();
    assert_eq!(order, ["red", "blue", "green"]);
    assert_eq!(item["label"], "red");
    // A raw output besides.
    let answer = ask("outputs=logits");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let logits = &answer.json()["items"][0]["outputs"][0];
    assert_eq!((&logits["name"], &logits["dtype"]), (&json!("logits"), &json!("f32")), "{logits}");
    let first = logits["data"][0].as_f64().unwrap_or_else(|| panic!("{logits}"));
    assert!((first - 10.0 * 128.0 / 255.0).abs() < 1e-3, "{logits}");

    for (query, code) in [
        ("explain=heatmap", "explain_unavailable"),
        ("explain=overlay", "explain_unavailable"),
        ("top_k=0", "query_invalid"),
        ("top_k=-1", "query_invalid"),
        ("top_k=", "query_invalid"),
        ("topk=1", "query_invalid"),
        ("top_k=1&top_k=1", "query_invalid"),
        ("outputs=cam", "output_unknown"),
        ("outputs=", "query_invalid"),
    ] {
        assert_refused(&ask(query), 400, code, "request_invalid");
    }
}

#[test]
fn what_is_served_is_told() {
    let Served { server, _models } = served();
    let list = server.json("/v1/models");
    let models = list["models"].as_array().unwrap();
    let names: Vec<_> = models.iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["colour", "colour_nan", "two"]);
    assert_eq!(models[0], server.json("/v1/models/colour"));
    assert_eq!(models[0]["serve"], json!(["1"]));
    assert_eq!((&models[0]["required"], &models[1]["required"]), (&json!(true), &json!(false)));
    let version = &models[0]["versions"][0];
    assert_eq!((&version["state"], &version["evidence"]), (&json!("serving"), &json!("golden")));
    assert_eq!(version["labels"], json!(LABELS));
    let states: Vec<_> =
        models[2]["versions"].as_array().unwrap().iter().map(|it| &it["state"]).collect();
    assert_eq!(states, ["serving", "found"]);

    let detail = server.json("/v1/models/colour/versions/1");
    assert_eq!(detail["card"]["seed"], 7);
    assert_eq!((&detail["verdicts"], &detail["images"]), (&json!(true), &json!(true)));
    assert_eq!(detail["inputs"][0]["name"], "image");
    assert_eq!(detail["outputs"][0]["name"], "logits");
    assert_eq!(server.json("/v1/models/two/versions/2")["state"], "found");
}
