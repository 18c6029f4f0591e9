//! Requests and their answers, over the socket: forms of bodies, ids, queries, headers, refusals.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use linesight::types::Digest;
use serde_json::{Value, json};

use crate::support::{
    client::{Answer, Connection, Request, get, post, request, verdict_of},
    colours::{GREEN, GREY, LABELS, NO_IMAGE, RED, png, scores},
    models::{Repository, colour_manifest},
    server::{Server, Settings},
};

const PREDICT: &str = "/v1/models/colour/predict";
const INSPECT: &str = "/v1/models/colour/inspect";
const MAX_BODY: usize = 1 << 20;

/// A server, and the folder it serves; both go with the test.
struct Served {
    server: Server,
    _models: Repository,
}

/// `colour`: proven, sealed, verdicts. `two`: version 1 served, version 2 only there, no verdicts.
/// `colour_nan`: bare, so it takes no images.
fn served() -> Served {
    let models = Repository::empty();
    models.proven("colour", "").seal("colour", "1");
    models.colour("two", "colour", &colour_manifest(false), "serve = \"1\"\n");
    models.proven_by("two", "2", "colour", &colour_manifest(true), &[]);
    models.bare("colour_nan");
    let server = Settings::new(models.path())
        .set("LINESIGHT_HTTP__MAX_BODY", "1MiB")
        .set("LINESIGHT_HTTP__MAX_IMAGES", "4")
        .ready();
    Served { server, _models: models }
}

/// Every answer has these, whatever it says.
#[track_caller]
fn assert_named_and_timed(answer: &Answer) {
    assert!(answer.header("x-request-id").is_some_and(|it| !it.is_empty()), "{answer:?}");
    let timing = answer.header("server-timing").unwrap_or_default();
    let total = timing.strip_prefix("total;dur=").unwrap_or_else(|| panic!("{answer:?}"));
    let number = total.split(',').next().unwrap();
    assert!(number.parse::<f64>().is_ok_and(|it| it > 0.0), "{timing}");
}

/// A refusal: its code, and in it nothing approved.
#[track_caller]
fn assert_refused(answer: &Answer, status: u16, code: &str, reason: &str) -> Value {
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

fn json_images(images: &[Value]) -> Value {
    json!({ "images": images })
}

fn base64(bytes: &[u8]) -> String {
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
fn headers_are_held_to_their_form() {
    let Served { server, _models } = served();
    let image = png(GREEN);
    let sha = Digest::of(&image).hex();
    let wrong_sha = Digest::of(b"another").hex();
    let plain = || post(PREDICT, image.clone());
    let good = [("X-Request-Timeout-Ms", "60000"), ("X-Content-SHA256", &*sha)];
    for (name, value) in good {
        assert_eq!(server.send(&plain().header(name, value)).status, 200, "{name}: {value}");
    }
    let bad = [
        ("X-Request-Timeout-Ms", "0", "header_invalid"),
        ("X-Request-Timeout-Ms", "-5", "header_invalid"),
        ("X-Request-Timeout-Ms", "1.5", "header_invalid"),
        ("X-Request-Timeout-Ms", "soon", "header_invalid"),
        ("X-Request-Timeout-Ms", "", "header_invalid"),
        ("X-Content-SHA256", &wrong_sha, "content_digest_mismatch"),
        ("X-Content-SHA256", "12", "header_invalid"),
        ("X-Item-Id", "a b", "id_invalid"),
        ("X-Item-Id", &"x".repeat(129), "id_invalid"),
        ("X-Acquisition-Id", "a/b", "id_invalid"),
    ];
    for (name, value, code) in bad {
        let answer = server.send(&plain().header(name, value));
        assert_refused(&answer, 400, code, "request_invalid");
    }
    let twice = plain().header("X-Item-Id", "a").header("X-Item-Id", "b");
    assert_refused(&server.send(&twice), 400, "header_invalid", "request_invalid");
    // A deadline that is well-formed and has passed before the body is there.
    let mut connection = Connection::open(server.data).unwrap();
    let head = "X-Request-Timeout-Ms: 50\r\nContent-Length: 99";
    let head = format!("POST {PREDICT} HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\nabc");
    let answer = connection.exchange(head.as_bytes()).unwrap();
    assert_refused(&answer, 504, "deadline", "deadline");
}

#[test]
fn bodies_that_are_not_understood_are_refused() {
    let Served { server, _models } = served();
    let green = png(GREEN);
    let image = json!({"base64": base64(&green)});
    let with_id = |id: &str| json!({"id": id, "base64": base64(&green)});
    let list = |images: &[Value]| Request::json(PREDICT, &json_images(images));
    let form = |files: &[(&str, &str, &[u8])]| Request::form(PREDICT, files);
    let typed = |content_type: &str, body: &[u8]| {
        post(PREDICT, body.to_vec()).header("Content-Type", content_type)
    };
    let five: Vec<_> = vec![image.clone(); 5];
    let file = |id: &'static str| ("a", id, green.as_slice());
    let boundary = "multipart/form-data; boundary=bound";
    let bad = [
        (list(&[with_id("a"), with_id("a")]), "id_duplicate"),
        (form(&[file("a.png"), file("a.png")]), "id_duplicate"),
        (list(&[with_id("a b")]), "id_invalid"),
        (list(&[image.clone()]).header("X-Item-Id", "a"), "header_invalid"),
        (list(&[]), "body_empty"),
        (list(&five), "too_many_images"),
        (form(&[file("1"), file("2"), file("3"), file("4"), file("5")]), "too_many_images"),
        (list(&[json!({"base64": "!!!"})]), "json_invalid"),
        (list(&[json!({"id": "a"})]), "json_invalid"),
        (list(&[json!({"base64": "", "colour": 1})]), "json_invalid"),
        (Request::json(PREDICT, &json!({"image": []})), "json_invalid"),
        (typed("application/json", b"{\"images\":["), "json_invalid"),
        (typed("application/json", b""), "body_empty"),
        (typed("multipart/form-data", b"x"), "multipart_invalid"),
        (typed(boundary, b"no form"), "multipart_invalid"),
        (typed(boundary, b"--bound\r\nContent-Disposition: form-data; na"), "multipart_invalid"),
        (post(PREDICT, Vec::new()), "body_empty"),
        (request("POST", PREDICT), "body_empty"),
    ];
    for (request, code) in bad {
        let answer = server.send(&request);
        assert_refused(&answer, 400, code, "request_invalid");
        assert_eq!(answer.header("connection"), None, "{code}: the connection stays open");
    }
    // A complaint names its place.
    let answer = server.send(&list(&[image, json!({"base64": "?"})]));
    assert!(answer.text().contains("images[1].base64"), "{}", answer.text());

    for (request, code, reason) in [
        (typed("text/html", &green), "content_type", "request_invalid"),
        (
            post(PREDICT, green).header("Content-Encoding", "gzip"),
            "content_encoding",
            "request_invalid",
        ),
        (post(PREDICT, NO_IMAGE), "image_format", "image_unreadable"),
        // The wrong type for a right body; the detail says which would do.
        (post(PREDICT, "{\"images\":[]}"), "content_type", "request_invalid"),
    ] {
        assert_refused(&server.send(&request), 415, code, reason);
    }
}

#[test]
fn paths_methods_and_models_that_are_not_there() {
    let Served { server, _models } = served();
    let image = || png(GREEN);
    for (path, status, code) in [
        ("/v1/models/none/predict", 404, "model_unknown"),
        ("/v1/models/..%2f/predict", 404, "model_unknown"),
        ("/v1/models/%ff/predict", 404, "model_unknown"),
        ("/v1/models/colour/versions/9/predict", 404, "version_unknown"),
        ("/v1/models/colour/versions/01/predict", 404, "version_unknown"),
        ("/v1/models/two/versions/2/predict", 404, "version_not_served"),
        ("/v1/models/colour/explain", 404, "route_unknown"),
        ("/", 404, "route_unknown"),
        ("/v2", 404, "route_unknown"),
        ("/v1/models/colour_nan/predict", 422, "no_preprocessing"),
        (INSPECT, 422, "no_item"),
    ] {
        let answer = server.send(&post(path, image()));
        let problem = assert_refused(&answer, status, code, "request_invalid");
        if code == "no_preprocessing" {
            assert!(problem["detail"].as_str().unwrap().contains("[preprocess]"), "{problem}");
        }
    }
    for path in ["/v1/models/none", "/v1/models/colour/versions/9", "/v1/models/none/versions/1"] {
        assert_eq!(server.send(&get(path)).status, 404, "{path}");
    }
    for (method, path, allow) in [
        ("GET", PREDICT, "POST"),
        ("PUT", PREDICT, "POST"),
        ("DELETE", "/v1/models/colour", "GET,HEAD"),
        ("POST", "/v1/models", "GET,HEAD"),
        ("POST", "/readyz", "GET,HEAD"),
    ] {
        let answer = server.send(&request(method, path));
        assert_refused(&answer, 405, "method_not_allowed", "request_invalid");
        assert_eq!(answer.header("allow"), Some(allow), "{method} {path}");
    }
    // The admin listener judges nothing.
    let answer = post(PREDICT, image()).send(server.admin);
    assert_refused(&answer, 404, "route_unknown", "request_invalid");
    assert_eq!(get("/healthz").send(server.admin).text(), "ok\n");
    assert_eq!(get("/openapi.json").send(server.data).json()["openapi"], "3.1.0");
}

#[test]
fn too_large_a_body_is_refused_with_and_without_its_length() {
    let Served { server, _models } = served();
    // By its length: before a byte of it is there.
    let mut connection = Connection::open(server.data).unwrap();
    let head = format!("POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n");
    let answer = connection.exchange(head.as_bytes()).unwrap();
    assert_refused(&answer, 413, "body_too_large", "image_too_large");
    assert_eq!(answer.header("connection"), Some("close"));
    // Sent all the same, by a client that reads only afterwards.
    let answer = server.send(&post(PREDICT, vec![0; 2 * MAX_BODY]));
    assert_refused(&answer, 413, "body_too_large", "image_too_large");
    // Without a length: as soon as it is too much.
    let mut connection = Connection::open(server.data).unwrap();
    connection.write(&request("POST", PREDICT).header("Transfer-Encoding", "chunked").bytes());
    for _ in 0..20 {
        connection.write(b"10000\r\n");
        connection.write(&[0; 0x10000]);
        connection.write(b"\r\n");
    }
    let answer = connection.answer().unwrap();
    assert_refused(&answer, 413, "body_too_large", "image_too_large");
    // The largest that is allowed is looked at.
    let answer = server.send(&post(PREDICT, vec![0; MAX_BODY]));
    assert_refused(&answer, 415, "image_format", "image_unreadable");
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

#[test]
fn a_refused_request_does_not_spoil_the_connection() {
    let Served { server, _models } = served();
    let mut connection = Connection::open(server.data).unwrap();
    let refused = post("/v1/models/none/predict", vec![0; 900_000]).bytes();
    assert_eq!(connection.exchange(&refused).unwrap().status, 404);
    assert_eq!(connection.exchange(&post(PREDICT, png(GREEN)).bytes()).unwrap().status, 200);
    // A body that is not wanted is not asked for; a wanted one is.
    let expecting = |path| {
        request("POST", path).header("Expect", "100-continue").header("Content-Length", "500000")
    };
    let answer = connection.exchange(&expecting("/v1/models/none/predict").bytes()).unwrap();
    assert_eq!((answer.status, answer.header("connection")), (404, Some("close")));
    let mut connection = Connection::open(server.data).unwrap();
    assert_eq!(connection.exchange(&expecting(PREDICT).bytes()).unwrap().status, 100);
}
