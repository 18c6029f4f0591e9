//! Start to ready, and resident memory over a long run at saturation.

use std::{path::Path, time::Duration};

use anyhow::Result;
use serde::Serialize;

use crate::{
    load::{Load, Pace, Target},
    server::Server,
    stats::{median, millis},
    subject::Subject,
    window::pause,
};

/// Starts of a fresh process; files are in the page cache.
#[derive(Debug, Serialize)]
pub struct Starts {
    /// The first, which measures the model.
    pub first_ms: f64,
    /// Of those that find it measured.
    pub median_ms: f64,
    pub each_ms: Vec<f64>,
}

pub fn starts(binary: &Path, n: usize) -> Result<Starts> {
    Server::forget_profiles()?;
    let first_ms = millis(Server::start(binary)?.ready_after);
    let each = (0..n).map(|_| Ok(millis(Server::start(binary)?.ready_after)));
    let each_ms = each.collect::<Result<Vec<_>>>()?;
    Ok(Starts { first_ms, median_ms: median(&each_ms), each_ms })
}

/// Resident memory in MB of 10^6 bytes.
#[derive(Debug, Serialize)]
pub struct Memory {
    pub requests: usize,
    pub loaded_mb: f64,
    pub second_fifth_mb: f64,
    pub last_fifth_mb: f64,
    pub end_mb: f64,
    pub highest_mb: f64,
    /// What the last fifth of the run holds more than the second, as a share.
    pub growth: f64,
    /// Requests answered, and memory.
    samples: Vec<(usize, f64)>,
}

const CONNECTIONS: usize = 8;
const SAMPLED_EVERY: Duration = Duration::from_millis(100);

pub fn memory(subject: &Subject, binary: &Path, requests: usize) -> Result<Memory> {
    let server = Server::start(binary)?;
    // What loading took is given back right after it.
    pause(Duration::from_secs(1));
    let loaded_mb = server.resident_mb()?;
    let target = Target { address: server.data, judges: true };
    let load = Load::start(target, &subject.pictures, CONNECTIONS, Pace::Requests(requests))?;
    let mut samples = Vec::new();
    while !load.is_over() {
        samples.push((load.answered(), server.resident_mb()?));
        pause(SAMPLED_EVERY);
    }
    let answered = load.stop()?.len();
    let end_mb = server.resident_mb()?;
    let fifth = |from: usize| {
        let range = requests * from / 5..requests * (from + 1) / 5;
        let inside = samples.iter().filter(|(at, _)| range.contains(at)).map(|(_, mb)| *mb);
        median(&inside.collect::<Vec<_>>())
    };
    let (second_fifth_mb, last_fifth_mb) = (fifth(1), fifth(4));
    Ok(Memory {
        requests: answered,
        loaded_mb,
        second_fifth_mb,
        last_fifth_mb,
        end_mb,
        highest_mb: samples.iter().map(|(_, mb)| *mb).fold(end_mb, f64::max),
        growth: last_fifth_mb / second_fifth_mb - 1.0,
        samples,
    })
}
