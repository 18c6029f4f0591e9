//! Many clients at once: each gets the answer to its own image, as if it were alone.

use std::collections::BTreeSet;

use crate::support::{
    client::{Answer, Connection, Request, post},
    colours::{LABELS, png, scores, verdict},
    models::{PATIENT, Repository},
    server::Settings,
};

const N_CLIENTS: u8 = 64;
const ROUNDS: u64 = 3;

/// An image for each client, none like another, of every verdict.
fn colour(client: u8) -> [u8; 3] {
    let step = client.wrapping_mul(4);
    [step / 2, step, 255 - step]
}

fn request(client: u8, round: u64) -> Request {
    post("/v1/models/colour/predict?top_k=all", png(colour(client)))
        .header("X-Item-Id", &format!("client-{client}-{round}"))
}

#[track_caller]
fn assert_same(crowded: &Answer, alone: &Answer) {
    for label in LABELS {
        let (a, b) = (crowded.score(0, label), alone.score(0, label));
        assert!((a - b).abs() <= 1e-3, "{label}: {a}, alone {b}");
    }
    assert_eq!(crowded.verdict(0), alone.verdict(0));
}

#[test]
fn sixty_four_clients_get_their_own_answers() {
    let models = Repository::empty();
    models.proven("colour", PATIENT);
    let server = Settings::new(models.path()).cores("2").ready();
    let alone: Vec<_> = (0..N_CLIENTS).map(|it| server.send(&request(it, 0))).collect();
    let mut verdicts = BTreeSet::new();
    for (client, answer) in (0..N_CLIENTS).zip(&alone) {
        let expected = scores(colour(client));
        assert_eq!(answer.verdict(0), verdict(expected), "{client}");
        for (label, expected) in LABELS.iter().zip(expected) {
            assert!((answer.score(0, label) - expected).abs() < 1e-3, "{client} {label}");
        }
        verdicts.insert(answer.verdict(0));
    }
    assert_eq!(verdicts.len(), 3, "{verdicts:?}");

    let data = server.data;
    std::thread::scope(|scope| {
        for (client, alone) in (0..N_CLIENTS).zip(&alone) {
            scope.spawn(move || {
                let mut connection = Connection::open(data).unwrap();
                for round in 0..ROUNDS {
                    let sent = request(client, round).bytes();
                    let answer = connection.exchange(&sent).unwrap();
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    let id = &answer.json()["items"][0]["item_id"];
                    assert_eq!(*id, format!("client-{client}-{round}"));
                    assert_same(&answer, alone);
                }
            });
        }
    });
    let counted =
        server.metric("linesight_items_total{model=\"colour\",outcome=\"ok\",version=\"1\"}");
    assert_eq!(counted, u64::from(N_CLIENTS) * (ROUNDS + 1));
}

#[test]
fn the_flagships_answers_do_not_depend_on_the_crowd() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    // Its deadline is not what is tried here, and a debug build on a busy machine is slow.
    let models = Repository::empty();
    models.file("vial-defect/model.toml", PATIENT);
    let settings = std::fs::read_to_string(root.join("models/vial-defect/model.toml")).unwrap();
    let settings: toml::Table = settings.parse().unwrap();
    let served = settings["serve"].as_str().unwrap();
    let version = models.path().join("vial-defect").join(served);
    std::os::unix::fs::symlink(root.join("models/vial-defect").join(served), version).unwrap();
    let server = Settings::new(models.path()).cores("2").ready();
    let samples: Vec<_> = ["good.jpg", "particle.jpg", "chips_cracks.jpg"]
        .map(|it| std::fs::read(root.join("training/samples").join(it)).unwrap())
        .into();
    let ask = |sample: &Vec<u8>| {
        post("/v1/models/vial-defect/predict?top_k=all", sample.clone()).send(server.data)
    };
    let alone: Vec<_> = samples.iter().map(ask).collect();
    std::thread::scope(|scope| {
        for client in 0..12 {
            let (samples, alone, ask) = (&samples, &alone, &ask);
            scope.spawn(move || {
                let at = client % samples.len();
                let (answer, alone) = (ask(&samples[at]), &alone[at]);
                assert_eq!(answer.status, 200, "{}", answer.text());
                assert_eq!(answer.verdict(0), alone.verdict(0));
                for label in ["good", "particle", "chips_cracks"] {
                    let (a, b) = (answer.score(0, label), alone.score(0, label));
                    assert!((a - b).abs() <= 1e-3, "{label}: {a}, alone {b}");
                }
            });
        }
    });
}
