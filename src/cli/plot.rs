//! A small chart as SVG: lines, and guides across them.

use std::fmt::Write as _;

/// What is drawn.
#[derive(Debug)]
pub struct Chart<'a> {
    /// A title, and a line below it.
    pub title: [&'a str; 2],
    /// What is measured along.
    pub along: Axis<'a>,
    /// What is measured up.
    pub up: Axis<'a>,
    /// The lines.
    pub lines: &'a [Line],
    /// Places along that mean something, with their names.
    pub guides: &'a [(f64, &'a str)],
    /// Whether each point is marked.
    pub dots: bool,
}

/// An axis, before it is known what lies on it.
#[derive(Debug, Clone, Copy)]
pub struct Axis<'a> {
    /// What is measured, with its unit.
    pub label: &'a str,
    /// How.
    pub scale: Scale,
}

/// How values lie on an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// From 0.
    Linear,
    /// Positive values only.
    Logarithmic,
}

/// A named line; its points ascend along the first coordinate.
#[derive(Debug)]
pub struct Line {
    /// What it shows.
    pub name: String,
    /// Along and up.
    pub points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 460.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 160.0;
const TOP: f64 = 60.0;
const BOTTOM: f64 = 60.0;
/// More values than this are not all written below the chart.
const MOST_TICKS: usize = 10;

/// Told apart by those who see few colours too (M. Okabe, K. Ito: Color Universal Design, 2008).
const COLOURS: [&str; 7] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];

/// From values to places on the paper.
struct Ruler {
    scale: Scale,
    from: f64,
    to: f64,
    start: f64,
    end: f64,
}

impl Ruler {
    /// One that holds all values, which are ascending; `None` without any.
    fn over(
        scale: Scale,
        values: &[f64],
        round_ends: bool,
        [start, end]: [f64; 2],
    ) -> Option<Self> {
        let (first, last) = (*values.first()?, *values.last()?);
        let (from, to) = match scale {
            Scale::Linear => (0.0, round(last.max(f64::MIN_POSITIVE), true)),
            Scale::Logarithmic if round_ends => {
                let from = round(first, false);
                (from, round(last, true).max(from * 2.0))
            }
            Scale::Logarithmic => (first, last.max(first * 2.0)),
        };
        Some(Self { scale, from, to, start, end })
    }

    fn at(&self, value: f64) -> f64 {
        let share = match self.scale {
            Scale::Linear => (value - self.from) / (self.to - self.from),
            Scale::Logarithmic => (value / self.from).ln() / (self.to / self.from).ln(),
        };
        self.start + share * (self.end - self.start)
    }

    fn ticks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Linear => {
                let step = round(self.to / 6.0, true);
                let next = |it: &f64| Some(it + step).filter(|it| *it <= self.to * 1.001);
                std::iter::successors(Some(0.0), next).collect()
            }
            Scale::Logarithmic => steps(round(self.from, true), self.to),
        }
    }
}

impl Chart<'_> {
    /// Draws it.
    #[must_use]
    pub fn svg(&self) -> String {
        let points = || self.lines.iter().flat_map(|it| it.points.iter().copied());
        let guides = self.guides.iter().map(|it| it.0);
        let along = ascending(points().map(|it| it.0).chain(guides));
        let up = ascending(points().map(|it| it.1));
        let few = along.len() <= MOST_TICKS;
        let (Some(x), Some(y)) = (
            Ruler::over(self.along.scale, &along, !few, [LEFT, WIDTH - RIGHT]),
            Ruler::over(self.up.scale, &up, true, [HEIGHT - BOTTOM, TOP]),
        ) else {
            return format!("{}</svg>\n", head(self.title));
        };
        let mut out = head(self.title);
        y.ticks().into_iter().for_each(|it| out += &tick_up(it, y.at(it)));
        let ticks = if few { along } else { x.ticks() };
        ticks.into_iter().for_each(|it| out += &tick_along(it, x.at(it)));
        for (value, name) in self.guides {
            out += &guide(x.at(*value), name);
        }
        out += &frame(self.along, self.up);
        for (at, (line, colour)) in self.lines.iter().zip(COLOURS.iter().cycle()).enumerate() {
            out += &drawn(line, colour, [&x, &y], self.dots);
            out += &named(at, &line.name, colour);
        }
        out + "</svg>\n"
    }
}

fn tick_up(value: f64, at: f64) -> String {
    format!(
        r##"<line x1="{LEFT}" x2="{}" y1="{at:.1}" y2="{at:.1}" stroke="#ddd"/><text x="{}" y="{:.1}" text-anchor="end">{}</text>
"##,
        WIDTH - RIGHT,
        LEFT - 8.0,
        at + 4.0,
        short(value)
    )
}

fn tick_along(value: f64, at: f64) -> String {
    let bottom = HEIGHT - BOTTOM;
    format!(
        r##"<line x1="{at:.1}" x2="{at:.1}" y1="{bottom}" y2="{}" stroke="#888"/><text x="{at:.1}" y="{}" text-anchor="middle">{}</text>
"##,
        bottom + 5.0,
        bottom + 20.0,
        short(value)
    )
}

fn guide(at: f64, name: &str) -> String {
    format!(
        r##"<line x1="{at:.1}" x2="{at:.1}" y1="{TOP}" y2="{}" stroke="#888" stroke-dasharray="5 4"/><text x="{:.1}" y="{}" fill="#555">{}</text>
"##,
        HEIGHT - BOTTOM,
        at + 4.0,
        TOP + 12.0,
        escaped(name)
    )
}

/// Without the tail that adding tenths leaves.
fn short(value: f64) -> String {
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
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

/// The two axes and what they show.
fn frame(along: Axis<'_>, up: Axis<'_>) -> String {
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    let (middle, height) = (f64::midpoint(LEFT, right), f64::midpoint(TOP, bottom));
    let said = |it: Axis<'_>| match it.scale {
        Scale::Linear => escaped(it.label),
        Scale::Logarithmic => format!("{}, logarithmic", escaped(it.label)),
    };
    format!(
        r##"<path d="M{LEFT} {TOP} V{bottom} H{right}" fill="none" stroke="#444"/>
<text x="{middle}" y="{}" text-anchor="middle">{}</text>
<text transform="translate(18 {height}) rotate(-90)" text-anchor="middle">{}</text>
"##,
        HEIGHT - 15.0,
        said(along),
        said(up)
    )
}

fn drawn(line: &Line, colour: &str, [x, y]: [&Ruler; 2], dots: bool) -> String {
    let places: Vec<(f64, f64)> =
        line.points.iter().map(|(along, up)| (x.at(*along), y.at(*up))).collect();
    let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let mut out = format!(
        r##"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="2"/>
"##,
        path.join(" ")
    );
    for ((x, y), (_, value)) in places.iter().zip(&line.points).filter(|_| dots) {
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

    const ITEMS: Axis<'_> = Axis { label: "items", scale: Scale::Logarithmic };
    const MS: Axis<'_> = Axis { label: "ms", scale: Scale::Logarithmic };

    fn chart<'a>(up: Axis<'a>, lines: &'a [Line], guides: &'a [(f64, &'a str)]) -> Chart<'a> {
        Chart { title: ["a & b", "c"], along: ITEMS, up, lines, guides, dots: true }
    }

    fn places(drawn: &str) -> Vec<(f64, f64)> {
        let number = |text: &str, name: &str| -> f64 {
            let from = text.split(&format!("{name}=\"")).nth(1).unwrap();
            from.split('"').next().unwrap().parse().unwrap()
        };
        let dots = drawn.lines().filter(|it| it.starts_with("<circle"));
        dots.map(|it| (number(it, "cx"), number(it, "cy"))).collect()
    }

    #[test]
    fn every_point_is_inside_the_frame_and_longer_is_higher() {
        let points = vec![(1.0, 18.2), (2.0, 36.0), (32.0, 580.0)];
        let lines = [
            Line { name: "1 thread".to_owned(), points },
            Line { name: "<2> threads".to_owned(), points: vec![(1.0, 10.4)] },
        ];
        for scale in [Scale::Linear, Scale::Logarithmic] {
            let drawn = chart(Axis { scale, ..MS }, &lines, &[(4.0, "four")]).svg();
            let places = places(&drawn);
            assert_eq!(places.len(), 4);
            for (x, y) in &places {
                assert!((LEFT..=WIDTH - RIGHT).contains(x) && (TOP..=HEIGHT - BOTTOM).contains(y));
            }
            assert!(places[0].0 < places[1].0 && places[1].1 < places[0].1, "{places:?}");
            assert!(
                drawn.contains("<title>a &amp; b</title>") && drawn.contains("&lt;2&gt; threads")
            );
            assert_eq!(drawn.contains(">ms, logarithmic"), scale == Scale::Logarithmic);
            assert!(drawn.contains("stroke-dasharray") && drawn.contains(">four</text>"));
            assert!(drawn.ends_with("</svg>\n"));
        }
        // A single point, or none, is a chart too.
        assert!(chart(MS, &lines[1..], &[]).svg().contains("<circle"));
        assert!(chart(MS, &[], &[]).svg().ends_with("</svg>\n"));
    }

    #[test]
    fn numbers_are_written_short() {
        for (value, text) in [(0.0, "0"), (0.6, "0.6"), (0.1 + 0.2, "0.3"), (1500.0, "1500")] {
            assert_eq!(short(value), text);
        }
    }
}
