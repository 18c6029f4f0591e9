//! What no client would send, byte by byte: refused in form, or closed; never more than that.

use linesight::types::Instant;

use crate::support::{
    client::{Connection, get, post},
    colours::{GREEN, png},
    models::Repository,
    server::{Server, Settings},
};

const PREDICT: &str = "/v1/models/colour/predict";

fn served() -> (Repository, Server) {
    let models = Repository::empty();
    models.proven("colour", "");
    let server = Settings::new(models.path())
        .set("LINESIGHT_HTTP__BODY_TIMEOUT", "300ms")
        .set("LINESIGHT_HTTP__HEADER_TIMEOUT", "300ms")
        .set("LINESIGHT_HTTP__FIRST_BYTE_TIMEOUT", "300ms")
        .ready();
    (models, server)
}

fn head(headers: &str) -> Vec<u8> {
    format!("POST {PREDICT} HTTP/1.1\r\nHost: x\r\n{headers}\r\n").into_bytes()
}

/// The server is none the worse for it.
#[track_caller]
fn assert_well(server: &Server) {
    let answer = server.send(&post(PREDICT, png(GREEN)));
    assert_eq!(answer.verdict(0), "approve/ok", "{}", answer.text());
    assert_eq!(server.metric("linesight_handler_panics_total"), 0);
}

#[test]
fn requests_that_break_the_protocol_are_refused_and_the_connection_closed() {
    let (_models, server) = served();
    let image = png(GREEN);
    let many: String = (0..200).map(|it| format!("X-{it}: x\r\n")).collect();
    let long = format!("X-Long: {}\r\n", "x".repeat(1 << 20));
    let both = "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n";
    let smuggled = [&head(both)[..], b"0\r\n\r\nGET /livez HTTP/1.1\r\nHost: x\r\n\r\n"].concat();
    for (what, bytes, allowed) in [
        ("a flood of headers", head(&many), &[400, 431][..]),
        ("a header of a megabyte", head(&long), &[400, 431]),
        ("two lengths", head("Content-Length: 4\r\nContent-Length: 5\r\n"), &[400]),
        ("a length that is no number", head("Content-Length: 4x\r\n"), &[400]),
        ("a negative length", head("Content-Length: -1\r\n"), &[400]),
        ("a length and chunks: one request hidden in another", smuggled, &[400]),
        ("an unknown coding", head("Transfer-Encoding: rot13\r\n"), &[400, 501]),
        ("chunked, but not last", head("Transfer-Encoding: chunked, gzip\r\n"), &[400, 501]),
        ("a space before the colon", head("Content-Length : 4\r\n"), &[400]),
        ("a folded header", head("X-A: a\r\n b\r\n"), &[400]),
        (
            "no HTTP at all",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(),
            &[400],
        ),
    ] {
        let mut connection = Connection::open(server.data).unwrap();
        connection.write(&bytes);
        connection.write(&image);
        // The connection may also be closed without an answer. It must not be used any further:
        // what follows could be taken for a request.
        if let Ok(answer) = connection.answer() {
            assert!(
                allowed.contains(&answer.status),
                "{what}: {} {}",
                answer.status,
                answer.text()
            );
            assert!(connection.is_closed(), "{what}: the connection was kept");
        }
    }
    assert_well(&server);
}

#[test]
fn nothing_after_a_chunked_request_is_taken_for_one() {
    let (_models, server) = served();
    let (length, chunks) = ("Content-Length: 60\r\n", "Transfer-Encoding: chunked\r\n");
    for headers in [[length, chunks].concat(), [chunks, length].concat(), chunks.to_owned()] {
        let hidden = b"0\r\n\r\nGET /livez HTTP/1.1\r\nHost: x\r\n\r\n";
        let mut connection = Connection::open(server.data).unwrap();
        let answer = connection.exchange(&[&head(&headers)[..], hidden].concat()).unwrap();
        assert_eq!(answer.status, 400, "{headers:?}: {}", answer.text());
        assert_eq!(answer.header("connection"), Some("close"), "{headers:?}");
        assert!(connection.is_closed(), "{headers:?}: the hidden request was answered");
    }
    // Where all is well too.
    let image = png(GREEN);
    let mut whole = head(chunks);
    whole.extend(format!("{:x}\r\n", image.len()).bytes());
    whole.extend_from_slice(&image);
    whole.extend_from_slice(b"\r\n0\r\n\r\n");
    let mut connection = Connection::open(server.data).unwrap();
    let answer = connection.exchange(&whole).unwrap();
    assert_eq!((answer.status, &*answer.verdict(0)), (200, "approve/ok"));
    assert!(connection.is_closed());
    assert_well(&server);
}

#[test]
fn a_request_names_its_host_once() {
    let (_models, server) = served();
    for hosts in ["", "Host: a\r\nHost: b\r\n", "Host: a\r\nHost: a\r\n"] {
        let mut connection = Connection::open(server.data).unwrap();
        let request = format!("GET /livez HTTP/1.1\r\n{hosts}\r\n");
        let answer = connection.exchange(request.as_bytes()).unwrap();
        assert_eq!(answer.status, 400, "{hosts:?}: {}", answer.text());
        assert_eq!(answer.json()["code"], "header_invalid", "{hosts:?}");
        assert!(connection.is_closed(), "{hosts:?}");
    }
    // HTTP/1.0 knows none.
    let mut connection = Connection::open(server.data).unwrap();
    assert_eq!(connection.exchange(b"GET /livez HTTP/1.0\r\n\r\n").unwrap().status, 200);
}

#[test]
fn chunks_that_are_none_are_an_incomplete_body() {
    let (_models, server) = served();
    for chunk in ["zz\r\n", "-1\r\n", "ffffffffffffffffff\r\n", "4\r\nabcdXX"] {
        let mut connection = Connection::open(server.data).unwrap();
        connection.write(&head("Transfer-Encoding: chunked\r\n"));
        let answer = connection.exchange(chunk.as_bytes()).unwrap();
        assert_eq!(answer.status, 400, "{chunk:?}: {}", answer.text());
        assert_eq!(answer.json()["code"], "body_incomplete", "{chunk:?}");
        assert_eq!(answer.verdict(0), "undecided/request_invalid");
        assert!(connection.is_closed(), "{chunk:?}");
    }
    assert_well(&server);
}

#[test]
fn a_body_that_is_shorter_or_longer_than_it_says() {
    let (_models, server) = served();
    let image = png(GREEN);
    // Shorter, and the rest never comes: 408.
    let longer = image.len() + 100;
    let mut connection = Connection::open(server.data).unwrap();
    connection.write(&head(&format!("Content-Length: {longer}\r\n")));
    let answer = connection.exchange(&image).unwrap();
    assert_eq!(answer.status, 408, "{}", answer.text());
    assert_eq!(answer.json()["code"], "body_timeout");
    assert_eq!(answer.verdict(0), "undecided/request_invalid");
    assert!(connection.is_closed());
    // Shorter, and the client ends it: told so, where it still listens.
    let mut connection = Connection::open(server.data).unwrap();
    connection.write(&head(&format!("Content-Length: {longer}\r\n")));
    connection.write(&image);
    connection.finish();
    if let Ok(answer) = connection.answer() {
        assert_eq!((answer.status, answer.json()["code"].as_str()), (400, Some("body_incomplete")));
    }
    // Longer: the rest is taken for a request, and is none.
    let mut connection = Connection::open(server.data).unwrap();
    connection.write(&head(&format!("Content-Length: {}\r\n", image.len())));
    let answer = connection.exchange(&[&image[..], b"left over\r\n\r\n"].concat()).unwrap();
    assert_eq!((answer.status, &*answer.verdict(0)), (200, "approve/ok"));
    assert!(connection.answer().is_err_and(|_| true) || connection.is_closed());
    // A drop at a time: the timer is for the whole body, not for each piece.
    let mut connection = Connection::open(server.data).unwrap();
    connection.write(&head("Content-Length: 1000000\r\n"));
    let began = Instant::now();
    while began.elapsed().as_millis() < 400 {
        connection.write(b"x");
    }
    assert_eq!(connection.answer().unwrap().status, 408);
    assert_well(&server);
}

#[test]
fn a_body_that_hardly_moves_is_given_up_long_before_its_timeout() {
    let models = Repository::empty();
    models.proven("colour", "");
    let server = Server::ready(models.path());
    let mut connection = Connection::open(server.data).unwrap();
    connection.write(&head("Content-Length: 10000000\r\n"));
    let began = Instant::now();
    // Enough for a second more than nothing at all.
    connection.write(&vec![0; 64 << 10]);
    let answer = connection.answer().unwrap();
    let waited = began.elapsed().as_secs_f64();
    assert_eq!(answer.status, 408, "{}", answer.text());
    assert!(answer.text().contains("KiB a second"), "{}", answer.text());
    assert!((2.9..20.0).contains(&waited), "{waited} s");
    assert!(connection.is_closed());
    assert_well(&server);
}

#[test]
fn a_flood_of_tiny_chunks_is_cut_off() {
    let models = Repository::empty();
    models.proven("colour", "");
    let server = Server::ready(models.path());
    let mut connection = Connection::open(server.data).unwrap();
    let mut bytes = head("Transfer-Encoding: chunked\r\n");
    bytes.extend_from_slice(&b"1\r\nx\r\n".repeat(70_000));
    let answer = connection.exchange(&bytes).unwrap();
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert_eq!(answer.json()["code"], "body_fragmented");
    assert!(connection.is_closed());
    assert_well(&server);
}

#[test]
fn who_says_nothing_or_says_it_slowly_is_closed() {
    let (_models, server) = served();
    let mut silent = Connection::open(server.data).unwrap();
    assert!(silent.is_closed());
    let mut slow = Connection::open(server.data).unwrap();
    slow.write(b"POST /v1/models/colour/pre");
    assert!(slow.answer().is_err());
    for phase in ["first_byte", "header"] {
        let sample = format!("linesight_connections_timed_out_total{{phase=\"{phase}\"}}");
        crate::support::server::until(&sample, || (server.metric(&sample) >= 1).then_some(()));
    }
    assert_well(&server);
    // Probes answer on their own listener all the while.
    assert_eq!(get("/livez").send(server.admin).status, 200);
}
