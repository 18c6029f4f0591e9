//! A small chart: lines over two logarithmic axes, as SVG.

use std::fmt::Write as _;

/// A named line; its points have positive coordinates and ascend along the first.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 460.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 120.0;
const TOP: f64 = 60.0;
const BOTTOM: f64 = 60.0;

/// Told apart by those who see few colours too (M. Okabe, K. Ito: Color Universal Design, 2008).
const COLOURS: [&str; 7] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];

/// From values to places on the paper.
struct Axis {
    from: f64,
    to: f64,
    start: f64,
    end: f64,
}

impl Axis {
    fn at(&self, value: f64) -> f64 {
        let share = (value / self.from).ln() / (self.to / self.from).ln();
        self.start + share * (self.end - self.start)
    }
}

/// Draws lines under a title and a line below it. `axes` names what is measured along and up, with
/// its unit.
pub(super) fn svg(title: [&str; 2], axes: [&str; 2], lines: &[Line]) -> String {
    let points = || lines.iter().flat_map(|it| it.points.iter().copied());
    let along: Vec<f64> = ascending(points().map(|it| it.0));
    let up: Vec<f64> = ascending(points().map(|it| it.1));
    let [Some(first), Some(last), Some(least), Some(most)] =
        [along.first(), along.last(), up.first(), up.last()].map(Option::<&f64>::copied)
    else {
        return empty(title);
    };
    let x = Axis { from: first, to: last.max(first * 2.0), start: LEFT, end: WIDTH - RIGHT };
    let (lowest, highest) = (round(least, false), round(most, true));
    let highest = highest.max(lowest * 2.0);
    let y = Axis { from: lowest, to: highest, start: HEIGHT - BOTTOM, end: TOP };
    let mut out = head(title);
    for value in steps(lowest, highest) {
        let at = y.at(value);
        let _never = writeln!(
            out,
            r##"<line x1="{LEFT}" x2="{}" y1="{at:.1}" y2="{at:.1}" stroke="#ddd"/><text x="{}" y="{:.1}" text-anchor="end">{value}</text>"##,
            WIDTH - RIGHT,
            LEFT - 8.0,
            at + 4.0
        );
    }
    for value in &along {
        let _never = writeln!(
            out,
            r##"<line x1="{0:.1}" x2="{0:.1}" y1="{1}" y2="{2}" stroke="#888"/><text x="{0:.1}" y="{3}" text-anchor="middle">{value}</text>"##,
            x.at(*value),
            HEIGHT - BOTTOM,
            HEIGHT - BOTTOM + 5.0,
            HEIGHT - BOTTOM + 20.0
        );
    }
    out.push_str(&frame(axes));
    for (at, (line, colour)) in lines.iter().zip(COLOURS.iter().cycle()).enumerate() {
        out.push_str(&drawn(line, colour, &x, &y));
        out.push_str(&named(at, &line.name, colour));
    }
    out.push_str("</svg>\n");
    out
}

fn head([title, below]: [&str; 2]) -> String {
    let (title, below) = (escaped(title), escaped(below));
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="12" role="img">
<title>{title}</title>
<rect width="100%" height="100%" fill="#fff"/>
<text x="{LEFT}" y="22" font-size="14">{title}</text>
<text x="{LEFT}" y="38" font-size="11" fill="#555">{below}</text>
"##
    )
}

fn empty(title: [&str; 2]) -> String {
    format!("{}</svg>\n", head(title))
}

/// The two axes and what they show.
fn frame([along, up]: [&str; 2]) -> String {
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    let (middle, height) = (f64::midpoint(LEFT, right), f64::midpoint(TOP, bottom));
    let (along, up) = (escaped(along), escaped(up));
    format!(
        r##"<path d="M{LEFT} {TOP} V{bottom} H{right}" fill="none" stroke="#444"/>
<text x="{middle}" y="{}" text-anchor="middle">{along}</text>
<text transform="translate(18 {height}) rotate(-90)" text-anchor="middle">{up}, logarithmic</text>
"##,
        HEIGHT - 15.0
    )
}

fn drawn(line: &Line, colour: &str, x: &Axis, y: &Axis) -> String {
    let places: Vec<(f64, f64)> =
        line.points.iter().map(|(along, up)| (x.at(*along), y.at(*up))).collect();
    let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let mut out = format!(
        r##"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="2"/>
"##,
        path.join(" ")
    );
    for ((x, y), (_, value)) in places.iter().zip(&line.points) {
        let _never = writeln!(
            out,
            r##"<circle cx="{x:.1}" cy="{y:.1}" r="3.5" fill="{colour}"><title>{value:.2}</title></circle>"##
        );
    }
    out
}

/// A line's name, beside the others: at the ends of lines close together they would overlap.
fn named(at: usize, name: &str, colour: &str) -> String {
    let below = f64::from(u16::try_from(at).unwrap_or(u16::MAX)) * 18.0;
    let (x, y, name) = (WIDTH - RIGHT + 16.0, TOP + 6.0 + below, escaped(name));
    format!(
        r##"<path d="M{x} {y} h18" stroke="{colour}" stroke-width="2"/><text x="{}" y="{}">{name}</text>
"##,
        x + 24.0,
        y + 4.0
    )
}

/// 1, 2 or 5 times a power of ten: the next at or beyond `value`.
fn round(value: f64, up: bool) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let all = [1.0, 2.0, 5.0, 10.0].map(|it| it * power);
    let found = if up {
        all.into_iter().find(|it| *it >= value)
    } else {
        all.into_iter().rev().find(|it| *it <= value)
    };
    found.unwrap_or(power)
}

/// Every such number from one to another.
fn steps(from: f64, to: f64) -> Vec<f64> {
    let next = |it: &f64| Some(round(it * 1.5, true)).filter(|it| *it <= to * 1.001);
    std::iter::successors(Some(from), next).collect()
}

fn ascending(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut all: Vec<f64> = values.collect();
    all.sort_unstable_by(f64::total_cmp);
    all.dedup();
    all
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_hold_everything_between_them() {
        for (value, below, above) in
            [(18.2, 10.0, 20.0), (0.031, 0.02, 0.05), (5.0, 5.0, 5.0), (999.0, 500.0, 1000.0)]
        {
            assert!((round(value, false) - below).abs() < below * 1e-9, "{value}");
            assert!((round(value, true) - above).abs() < above * 1e-9, "{value}");
        }
        let ticks: Vec<String> = steps(10.0, 500.0).iter().map(f64::to_string).collect();
        assert_eq!(ticks, ["10", "20", "50", "100", "200", "500"]);
    }

    #[test]
    fn every_point_is_inside_the_frame_and_longer_is_higher() {
        let points = vec![(1.0, 18.2), (2.0, 36.0), (32.0, 580.0)];
        let lines = [
            Line { name: "1 thread".to_owned(), points },
            Line { name: "<2> threads".to_owned(), points: vec![(1.0, 10.4)] },
        ];
        let drawn = svg(["a & b", "c"], ["items", "ms"], &lines);
        let number = |text: &str, name: &str| -> f64 {
            let from = text.split(&format!("{name}=\"")).nth(1).unwrap();
            from.split('"').next().unwrap().parse().unwrap()
        };
        let places: Vec<(f64, f64)> = drawn
            .lines()
            .filter(|it| it.starts_with("<circle"))
            .map(|it| (number(it, "cx"), number(it, "cy")))
            .collect();
        assert_eq!(places.len(), 4);
        for (x, y) in &places {
            assert!((LEFT..=WIDTH - RIGHT).contains(x) && (TOP..=HEIGHT - BOTTOM).contains(y));
        }
        assert!(places[0].0 < places[1].0 && places[1].1 < places[0].1, "{places:?}");
        assert!(drawn.contains("<title>a &amp; b</title>") && drawn.contains("&lt;2&gt; threads"));
        assert!(drawn.contains("ms, logarithmic") && drawn.ends_with("</svg>\n"));
        // A single point, or none, is a chart too.
        assert!(svg(["t", "u"], ["x", "y"], &lines[1..]).contains("<circle"));
        assert!(svg(["t", "u"], ["x", "y"], &[]).ends_with("</svg>\n"));
    }
}
