//! The charts of the page.

use std::{fs, path::Path};

use anyhow::Result;
use linesight::cli::plot::{Axis, Chart, Line, Scale};

use crate::report::Run;

/// Draws them into a folder.
pub fn write(run: &Run, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    for (name, svg) in [
        ("throughput.svg", throughput(run)),
        ("latency.svg", latency(run)),
        ("goodput.svg", goodput(run)),
    ] {
        fs::write(folder.join(name), svg)?;
    }
    Ok(())
}

fn throughput(run: &Run) -> String {
    let it = &run.saturation;
    let at = |value: &dyn Fn(&crate::saturation::AtConnections) -> f64| {
        it.at.iter().map(|at| (count(at.connections), value(at))).collect()
    };
    let lines = [
        Line { name: "over HTTP".to_owned(), points: at(&|it| it.per_second) },
        Line { name: "raw floor".to_owned(), points: at(&|_| it.floor_per_second) },
        Line { name: "fair floor".to_owned(), points: at(&|_| it.fair_floor_per_second) },
    ];
    Chart {
        title: [
            "Throughput against concurrency",
            "JPEG to answer, closed loop, medians over the rounds",
        ],
        along: Axis { label: "connections", scale: Scale::Logarithmic },
        up: Axis { label: "images/s", scale: Scale::Linear },
        lines: &lines,
        guides: &[],
        dots: true,
    }
    .svg()
}

fn latency(run: &Run) -> String {
    let line = |name: String, percentiles: &[f64]| Line {
        name,
        points: percentiles.iter().zip(0_u8..).map(|(ms, at)| (*ms, f64::from(at))).collect(),
    };
    let closed = run.saturation.at.iter();
    let closed =
        closed.map(|it| line(format!("{} connections", it.connections), &it.percentiles_ms));
    let open = run.overload.iter().filter(|it| it.times >= 2.0);
    let open = open.map(|it| line(format!("{}x capacity", it.times), &it.percentiles_ms));
    let lines: Vec<Line> = closed.chain(open).collect();
    Chart {
        title: [
            "Latency of answers (200)",
            "closed loop by connections; open loop by offered load",
        ],
        along: Axis { label: "ms", scale: Scale::Logarithmic },
        up: Axis { label: "% of answers within", scale: Scale::Linear },
        lines: &lines,
        guides: &[(600.0, "target"), (3000.0, "limit")],
        dots: false,
    }
    .svg()
}

fn goodput(run: &Run) -> String {
    let points = |value: &dyn Fn(&crate::overload::AtLoad) -> f64| {
        run.overload.iter().map(|it| (it.times, value(it))).collect()
    };
    let lines = [
        Line { name: "in time".to_owned(), points: points(&|it| it.of_capacity) },
        Line { name: "offered, at most 1".to_owned(), points: points(&|it| it.times.min(1.0)) },
    ];
    Chart {
        title: ["Answered within 0.6 s against offered load", "open loop; both of the capacity"],
        along: Axis { label: "offered, of the capacity", scale: Scale::Logarithmic },
        up: Axis { label: "in time, of the capacity", scale: Scale::Linear },
        lines: &lines,
        guides: &[],
        dots: true,
    }
    .svg()
}

fn count(n: usize) -> f64 {
    crate::stats::ratio(n, 1)
}
