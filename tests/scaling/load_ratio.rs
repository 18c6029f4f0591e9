//! `linesight_load_ratio` is what is offered, of what the server can do: the arithmetic of autoscalers
//! (replicas = sum of the ratios / target) holds or fails with it.

use std::time::Duration;

use linesight::types::Instant;

use crate::{
    flagship::{self, turn},
    load::{Connections, Load, Pace, capacity, pause},
    support::{client::get, server::Server},
};

/// What the gauge is averaged over.
const WINDOW: Duration = Duration::from_secs(10);

fn load_ratio(server: &Server) -> f64 {
    let page = get("/metrics").send(server.admin).text();
    let line = page.lines().find_map(|it| it.strip_prefix("linesight_load_ratio "));
    line.unwrap().parse().unwrap()
}

#[test]
fn the_load_ratio_is_what_is_offered_of_what_can_be_done() {
    let _turn = turn();
    let models = flagship::repository("target = \"600ms\"\nlimit = \"3s\"");
    // Refusals that are held would keep these few clients from offering ten times what can be done.
    let server = flagship::settings(&models).set("LINESIGHT_HTTP__PACE_RETRIES", "off").ready();
    let mut before = capacity(server.data, 3, Connections::Kept);
    for times in [0.5, 0.9, 2.0, 10.0] {
        let load = Load::start(server.data, 64, Pace::PerSecond(before * times), Connections::Kept);
        pause(WINDOW + Duration::from_millis(500));
        let (said, now) = (load_ratio(&server), Instant::now());
        let asked = load.stop();
        // The machine's speed drifts: what can be done is taken on both sides.
        let after = capacity(server.data, 3, Connections::Kept);
        let lately = asked.iter().filter(|it| now - WINDOW <= it.sent && it.sent < now).count();
        let offered = f64::from(u32::try_from(lately).unwrap()) / WINDOW.as_secs_f64();
        let truth = offered / f64::midpoint(before, after);
        assert!(truth > 0.8 * times, "only {truth:.2} of the capacity was offered, not {times}");
        assert!(
            (said / truth - 1.0).abs() <= 0.15,
            "at {times}: said {said:.3}, in truth {truth:.3} ({offered:.1}/s of {before:.1}/s, \
             {after:.1}/s)"
        );
        before = after;
    }
}
