//! Requests that are refused: each with its status, its code, and nothing approved.

use std::slice;

use linesight::types::Digest;
use serde_json::{Value, json};

use crate::{
    api::{INSPECT, MAX_BODY, PREDICT, Served, assert_refused, base64, json_images, served},
    support::{
        client::{Connection, Request, get, post, request},
        colours::{GREEN, NO_IMAGE, png},
    },
};

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
        (list(slice::from_ref(&image)).header("X-Item-Id", "a"), "header_invalid"),
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
