//! More than can be done: refused at once, with a time to come back, and forgotten when it is over.

use std::{collections::BTreeMap, sync::Mutex, time::Duration};

use linesight::types::Instant;

use crate::support::{
    client::{Answer, Connection, post, request},
    colours::{GREEN, png},
    models::{PATIENT, Repository, colour_manifest},
    server::{Server, Settings, until},
};

const PREDICT: &str = "/v1/models/slow/predict";

/// A refusal for load, and what a client is to make of it.
#[track_caller]
fn assert_overloaded(answer: &Answer) {
    assert_eq!(answer.status, 503, "{}", answer.text());
    let problem = answer.json();
    assert_eq!(problem["code"], "overloaded");
    assert_eq!(answer.verdict(0), "undecided/overloaded");
    let millis = problem["retry_after_ms"].as_u64().unwrap();
    let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!(millis > 0 && seconds == millis.div_ceil(1000), "{millis} ms, {seconds} s");
}

/// One lane, and a model of which one item takes `took` milliseconds; limit as given, by that time.
fn slow(budget: impl Fn(u64) -> String) -> (Repository, Server) {
    let models = Repository::empty();
    models.colour("slow", "slow", &colour_manifest(false), PATIENT);
    let server = Settings::new(models.path()).ready();
    let took = server.send(&post(PREDICT, png(GREEN))).json()["items"][0]["timing"]["infer_ms"]
        .as_f64()
        .unwrap();
    drop(server);
    let took = Duration::from_secs_f64(took / 1e3).as_millis();
    models.file("slow/model.toml", budget(u64::try_from(took).unwrap().max(1)));
    let server = Settings::new(models.path()).ready();
    (models, server)
}

#[test]
fn a_flood_is_refused_promptly_and_leaves_no_trace() {
    // Room for about four items.
    let (_models, server) =
        slow(|took| format!("[budget]\ntarget = \"{took}ms\"\nlimit = \"{}ms\"\n", 4 * took));
    let limit = server.json("/v1/models/slow")["budget"]["limit_ms"].as_f64().unwrap();
    let answers = Mutex::new(BTreeMap::<u16, u64>::new());
    let n_clients = 32;
    std::thread::scope(|scope| {
        for _ in 0..n_clients {
            scope.spawn(|| {
                let mut connection = Connection::open(server.data).unwrap();
                let began = Instant::now();
                let answer = connection.exchange(&post(PREDICT, png(GREEN)).bytes()).unwrap();
                let waited = began.elapsed().as_secs_f64() * 1e3;
                match answer.status {
                    200 => assert_eq!(answer.verdict(0), "null"),
                    504 => assert_eq!(answer.verdict(0), "undecided/deadline"),
                    _ => assert_overloaded(&answer),
                }
                // Nobody waits much longer than the limit, whatever the answer; twice, as the
                // machine is busy with more than this.
                assert!(waited < 2.0 * limit + 2000.0, "{waited} ms: {}", answer.text());
                *answers.lock().unwrap().entry(answer.status).or_default() += 1;
            });
        }
    });
    let answers = answers.into_inner().unwrap();
    let n = |status| answers.get(&status).copied().unwrap_or(0);
    assert!(n(200) >= 1, "some are served: {answers:?}");
    assert!(n(503) >= 1, "some are refused at the door: {answers:?}");
    assert!(n(503) + n(504) >= n_clients / 2, "most are not served: {answers:?}");
    let shed =
        server.metric("linesight_items_total{model=\"slow\",outcome=\"shed\",version=\"1\"}");
    assert_eq!(shed, n(503), "{answers:?}");
    let because = |reason| {
        server.metric(&format!("linesight_shed_total{{model=\"slow\",reason=\"{reason}\"}}"))
    };
    assert_eq!(because("queue") + because("burst"), shed);
    // Overload is no reason to leave the rotation.
    server.wait_for_status("/readyz", 200);
    // And it is over when it is over.
    until("the queue to be worked off", || {
        let answer = server.send(&post(PREDICT, png(GREEN)));
        (answer.status == 200).then_some(())
    });
}

#[test]
fn a_client_that_cannot_wait_is_refused_or_told_when_its_time_is_up() {
    let (_models, server) = slow(|_| PATIENT.to_owned());
    // An idle server knows that it takes longer than this.
    let hasty = post(PREDICT, png(GREEN)).header("X-Request-Timeout-Ms", "1");
    let began = Instant::now();
    let answer = server.send(&hasty);
    assert!([503, 504].contains(&answer.status), "{}", answer.text());
    if answer.status == 503 {
        assert_overloaded(&answer);
    } else {
        assert_eq!(answer.verdict(0), "undecided/deadline");
    }
    assert!(began.elapsed().as_secs() < 5);
    // One that is patient is served.
    let patient = post(PREDICT, png(GREEN)).header("X-Request-Timeout-Ms", "25000");
    assert_eq!(server.send(&patient).status, 200);
}

#[test]
fn a_queue_too_long_for_a_client_is_told_from_the_head_and_forgets_who_has_left() {
    let (_models, server) = slow(|_| PATIENT.to_owned());
    let patient = post(PREDICT, png(GREEN)).bytes();
    let n_clients = 8;
    let waiting: Vec<_> = (0..n_clients)
        .map(|_| {
            let mut connection = Connection::open(server.data).unwrap();
            connection.write(&patient);
            connection
        })
        .collect();
    let depth = || server.metric("linesight_queue_depth{model=\"slow\",version=\"1\"}");
    until("a queue", || (depth() >= 5).then_some(()));
    // Not continued: the answer to the head is the refusal.
    let hasty = request("POST", PREDICT)
        .header("X-Request-Timeout-Ms", "20")
        .header("Expect", "100-continue")
        .header("Content-Length", "500000");
    let answer = hasty.send(server.data);
    assert_overloaded(&answer);
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(server.metric("linesight_shed_total{model=\"slow\",reason=\"deadline\"}"), 1);
    // Nobody works for who has left: the queue is empty long before it could be worked off.
    drop(waiting);
    until("the queue to be empty", || (depth() == 0).then_some(()));
    let count = |outcome: &str| {
        let labels = format!("model=\"slow\",outcome=\"{outcome}\",version=\"1\"");
        server.metric(&format!("linesight_items_total{{{labels}}}"))
    };
    until("all to be counted", || (count("ok") + count("cancelled") == n_clients).then_some(()));
    assert!(count("cancelled") >= 3, "{} were answered", count("ok"));
}

#[test]
fn bytes_in_flight_are_bounded() {
    let models = Repository::empty();
    models.proven("colour", "");
    let server = Settings::new(models.path())
        .set("LINESIGHT_HTTP__MAX_BODY", "256KiB")
        .set("LINESIGHT_HTTP__MAX_BYTES_IN_FLIGHT", "256KiB")
        .ready();
    let predict = "/v1/models/colour/predict";
    let announce = |n_bytes: usize| {
        let mut connection = Connection::open(server.data).unwrap();
        let head =
            format!("POST {predict} HTTP/1.1\r\nHost: x\r\nContent-Length: {n_bytes}\r\n\r\n");
        connection.write(head.as_bytes());
        connection
    };
    // An announcement alone takes nothing from the others.
    let _silent: Vec<_> = (0..8).map(|_| announce(256 * 1024)).collect();
    assert_eq!(server.send(&post(predict, png(GREEN))).verdict(0), "approve/ok");
    // What has come does.
    let mut holder = announce(253 * 1024);
    holder.write(&vec![0; 252 * 1024]);
    until("the bytes to be held", || {
        (server.metric("linesight_bytes_in_flight") == 252 * 1024).then_some(())
    });
    let answer = server.send(&post(predict, vec![0; 8 * 1024]));
    assert_overloaded(&answer);
    assert_eq!(server.metric("linesight_shed_total{model=\"colour\",reason=\"bytes\"}"), 1);
    // A small one still fits.
    assert_eq!(server.send(&post(predict, png(GREEN))).verdict(0), "approve/ok");
    // One that does not say how long it is takes its bytes as they come.
    let mut growing = Connection::open(server.data).unwrap();
    growing.write(
        format!("POST {predict} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            .as_bytes(),
    );
    let piece = [b"1000\r\n".as_slice(), &[0; 0x1000], b"\r\n"].concat();
    growing.write(&piece);
    growing.write(&piece);
    growing.write(b"0\r\n\r\n");
    assert_overloaded(&growing.answer().unwrap());
    // They come free with the connection.
    drop(holder);
    until("the bytes to come free", || {
        (server.metric("linesight_bytes_in_flight") == 0).then_some(())
    });
    let answer = server.send(&post(predict, vec![0; 8 * 1024]));
    assert_eq!(answer.status, 415, "looked at again: {}", answer.text());
}
