//! Two replicas behind a proxy, under load: killed, drained, replaced, and no request fails.
//!
//! The test plays the cluster: it tells the proxy of replicas that are ready, and looks at `/readyz` to
//! see which is not any more.

use std::net::SocketAddr;

use crate::{
    flagship::{self, turn},
    load::{Asked, Connections, Load, Pace, capacity},
    nginx::{Nginx, Retry},
    support::{
        models::Repository,
        server::{Server, until},
    },
};

/// All of them share this machine's cores, with the proxy and the clients: what is tried is whether a
/// request is lost, not how long it takes.
const PATIENT: &str = "target = \"10s\"\nlimit = \"30s\"";

/// Of what both replicas can do.
const SHARE: f64 = 0.6;

fn replica(models: &Repository) -> Server {
    flagship::settings(models).set("LINESIGHT_SERVER__DRAIN_DELAY", "2s").ready()
}

fn addresses(replicas: &[&Server]) -> Vec<SocketAddr> {
    replicas.iter().map(|it| it.data).collect()
}

fn start_load(nginx: &Nginx) -> Load {
    let rate = SHARE * capacity(nginx.address, 6, Connections::Fresh);
    Load::start(nginx.address, 64, Pace::PerSecond(rate), Connections::Fresh)
}

/// Waits until so many more are answered.
#[track_caller]
fn answered(load: &Load, more: u32) {
    let enough = load.answered() + more;
    until("more answers", || (load.answered() >= enough).then_some(()));
}

/// Waits until a replica has done its part.
#[track_caller]
fn takes_part(replica: &Server) {
    let n = || {
        replica.metric("linesight_items_total{model=\"vial-defect\",outcome=\"ok\",version=\"2\"}")
    };
    let before = n();
    until("a replica to be asked", || (n() >= before + 5).then_some(()));
}

#[track_caller]
fn assert_none_failed(asked: &[Asked], nginx: &Nginx) {
    let failed: Vec<_> = asked.iter().filter(|it| it.outcome != Ok(200)).collect();
    let first = failed.first();
    assert!(first.is_none(), "{} of {}: {first:?}\n{}", failed.len(), asked.len(), nginx.log());
}

#[test]
fn a_rolling_update_at_60_percent_load_fails_no_request() {
    let _turn = turn();
    let models = flagship::repository(PATIENT);
    let replicas: Vec<Server> = (0..4).map(|_| replica(&models)).collect();
    let mut serving: Vec<&Server> = replicas.iter().take(2).collect();
    // No second try: what fails here, a client sees.
    let mut nginx = Nginx::start(&addresses(&serving), Retry::Never);
    let load = start_load(&nginx);
    answered(&load, 20);
    for new in replicas.iter().skip(2) {
        let old = serving.remove(0);
        serving.push(new);
        nginx.route(&addresses(&[&[old][..], &serving].concat()));
        takes_part(new);
        old.signal("TERM");
        old.wait_for_status("/readyz", 503);
        // It still takes what comes before the proxy knows.
        takes_part(old);
        nginx.route(&addresses(&serving));
        old.logged("stopped taking requests");
        answered(&load, 20);
    }
    assert_none_failed(&load.stop(), &nginx);
    for (position, replica) in replicas.into_iter().enumerate() {
        if position < 2 {
            assert_eq!(replica.wait().code(), Some(0));
        }
    }
}

#[test]
fn one_replica_killed_and_one_drained_under_load_fail_no_request() {
    let _turn = turn();
    let models = flagship::repository(PATIENT);
    let [killed, drained, left] = std::array::from_fn(|_| replica(&models));
    let mut nginx = Nginx::start(&addresses(&[&killed, &drained]), Retry::Another);
    let load = start_load(&nginx);
    answered(&load, 20);
    // With requests in hand, and without a word to the proxy.
    drop(killed);
    answered(&load, 20);
    nginx.route(&addresses(&[&drained, &left]));
    takes_part(&left);
    drained.signal("TERM");
    drained.wait_for_status("/readyz", 503);
    nginx.route(&addresses(&[&left]));
    assert_eq!(drained.wait().code(), Some(0));
    answered(&load, 20);
    assert_none_failed(&load.stop(), &nginx);
}
