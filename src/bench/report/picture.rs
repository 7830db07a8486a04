//! Pictures as inline SVG: plain shapes and text, coloured by the page's variables. Each says in words what it shows.

use std::{
    io::{self, Write},
    time::Duration,
};

use super::{
    figures::{averaged, bytes_per_second, per_second, time},
    sheet::as_f64,
};
use crate::{
    bench::{Distribution, Run},
    report::html_escape as escape,
};

/// What the pictures need beside the page's own styles.
pub(super) const CSS: &str = "\
:root{--a:#0b57d0;--b:#b3560b}
@media(prefers-color-scheme:dark){:root{--a:#8ab4f8;--b:#f6ad6c}}
figure{margin:1.5rem 0}svg{display:block;width:100%;height:auto}svg text{fill:var(--text);font:12px system-ui,sans-serif}
.grid{stroke:var(--line);stroke-width:1}.a,.b{fill:none;stroke-width:2;stroke-linejoin:round}.a{stroke:var(--a)}
.b{stroke:var(--b);stroke-dasharray:6 3}.failed{fill:var(--bad)}
";

/// The picture's size, and the space that its axes leave: left, right, top, bottom.
const SIZE: (f64, f64) = (800.0, 280.0);
const PLOT: (f64, f64, f64, f64) = (90.0, 780.0, 16.0, 230.0);

/// Points of a line; more could not be told apart.
const POINTS: usize = 350;

/// Draws how fast each arm was over time.
pub(super) fn course(run: &Run, out: &mut dyn Write) -> io::Result<()> {
    let bulk = run.settings.workload.is_bulk();
    let say = if bulk { bytes_per_second } else { per_second };
    let mut lines = Vec::new();
    let mut words = Vec::new();
    let (mut end, mut highest, mut failed) = (0.0_f64, 0.0_f64, Vec::new());
    for (arm, name) in run.arms.iter().zip(names(run)) {
        let course = arm.measurement.course(bulk);
        let values: Vec<f64> = averaged(&course, POINTS).collect();
        let seconds = arm.measurement.elapsed().as_secs_f64();
        let step = seconds / as_f64(values.len().max(1) as u64);
        let points: Vec<(f64, f64)> =
            (0_u32..).zip(&values).map(|(n, value)| ((f64::from(n) + 0.5) * step, *value)).collect();
        let (low, high) =
            values.iter().fold((f64::MAX, 0.0_f64), |(low, high), value| (low.min(*value), high.max(*value)));
        if values.len() > 1 {
            words.push(format!("{name}{} to {} over {}", say(low), say(high), time(arm.measurement.elapsed())));
        }
        lines.push(points);
        failed.extend(arm.measurement.ticks().filter(|at| at.tick.failed > 0).map(|at| at.start.as_secs_f64()));
        (end, highest) = (end.max(seconds), highest.max(high));
    }
    if words.is_empty() || highest <= 0.0 {
        return Ok(());
    }
    if !failed.is_empty() {
        words.push("marks at the bottom show when operations failed".to_owned());
    }
    let marks = |axis: &[f64], say: &dyn Fn(f64) -> String| axis.iter().map(|at| (*at, say(*at))).collect();
    let (across, up) = (round(0.0, end), round(0.0, highest));
    let picture = Picture {
        title: if bulk { "Goodput over time" } else { "Operations per second over time" },
        words: words.join("; "),
        x: Axis { low: 0.0, high: end, marks: marks(&across, &seconds) },
        y: Axis { low: 0.0, high: highest.max(up.last().copied().unwrap_or(0.0)), marks: marks(&up, &say) },
        lines,
        failed: thinned(&failed, end),
    };
    picture.draw(run, out)
}

/// Draws which share of the operations took how long, with a logarithmic axis either way: each step to the right has a
/// tenth of the operations of the one before.
pub(super) fn latency(run: &Run, out: &mut dyn Write) -> io::Result<()> {
    let arms = || run.arms.iter().map(|arm| &arm.measurement.latency).filter(|times| !times.is_empty());
    let most = arms().map(Distribution::count).max().unwrap_or(0);
    // A single operation has no distribution.
    if most < 2 {
        return Ok(());
    }
    let nines = as_f64(most).log10();
    let lines: Vec<Vec<(f64, f64)>> = arms().map(|times| tail(times, nines)).collect();
    let all = || lines.iter().flatten().map(|(_, seconds)| *seconds);
    let (low, high) = (all().fold(f64::MAX, f64::min), all().fold(0.0, f64::max));
    // Alike times are no line on an axis without length.
    let (low, high) = (low.min(high / 1.5), high.max(low * 1.5));
    let words = run.arms.iter().zip(names(run)).filter_map(|(arm, name)| {
        let times = &arm.measurement.latency;
        let at = |share| times.quantile(share).map(time);
        Some(format!("{name}p50 {}, p99 {}, p99.9 {}, longest {}", at(0.5)?, at(0.99)?, at(0.999)?, at(1.0)?))
    });
    let picture = Picture {
        title: "Latency by percentile",
        words: words.collect::<Vec<_>>().join("; "),
        x: Axis { low: 0.0, high: nines, marks: percentiles(nines) },
        y: Axis {
            low: low.log10(),
            high: high.log10(),
            marks: decades(low, high).into_iter().map(|at| (at.log10(), seconds(at))).collect(),
        },
        lines: lines.into_iter().map(|line| line.into_iter().map(|(x, y)| (x, y.log10())).collect()).collect(),
        failed: Vec::new(),
    };
    picture.draw(run, out)
}

struct Axis {
    low: f64,
    high: f64,
    marks: Vec<(f64, String)>,
}

impl Axis {
    /// Where a value is between begin and end of the picture.
    fn at(&self, value: f64, (begin, end): (f64, f64)) -> f64 {
        let share = (value - self.low) / (self.high - self.low);
        begin + (end - begin) * if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 }
    }
}

struct Picture {
    title: &'static str,
    /// What it shows, for those who do not see it.
    words: String,
    x: Axis,
    y: Axis,
    /// Of A and of B.
    lines: Vec<Vec<(f64, f64)>>,
    /// Where something failed.
    failed: Vec<f64>,
}

impl Picture {
    fn draw(&self, run: &Run, out: &mut dyn Write) -> io::Result<()> {
        let (width, height) = SIZE;
        let (left, right, top, bottom) = PLOT;
        let (title, words) = (self.title, escape(&self.words));
        writeln!(out, "<figure>\n<figcaption><strong>{title}</strong>{}</figcaption>", legend(run))?;
        writeln!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
             aria-label=\"{title}: {words}\">\n<title>{title}</title>\n<desc>{words}</desc>"
        )?;
        for (at, name) in &self.y.marks {
            let y = self.y.at(*at, (bottom, top));
            writeln!(out, "<line class=\"grid\" x1=\"{left}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>")?;
            let (x, y) = (left - 8.0, y + 4.0);
            writeln!(out, "<text x=\"{x}\" y=\"{y:.1}\" text-anchor=\"end\">{}</text>", escape(name))?;
        }
        for (at, name) in &self.x.marks {
            let x = self.x.at(*at, (left, right));
            writeln!(out, "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top}\" y2=\"{bottom}\"/>")?;
            let y = bottom + 20.0;
            writeln!(out, "<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{}</text>", escape(name))?;
        }
        for at in &self.failed {
            let x = self.x.at(*at, (left, right));
            writeln!(out, "<rect class=\"failed\" x=\"{x:.1}\" y=\"{}\" width=\"2\" height=\"6\"/>", bottom - 6.0)?;
        }
        for (line, class) in self.lines.iter().zip(["a", "b"]) {
            write!(out, "<polyline class=\"{class}\" points=\"")?;
            for (x, y) in line {
                write!(out, "{:.1},{:.1} ", self.x.at(*x, (left, right)), self.y.at(*y, (bottom, top)))?;
            }
            writeln!(out, "\"/>")?;
        }
        writeln!(out, "</svg>\n</figure>")
    }
}

/// Which line is whose, where there are two.
fn legend(run: &Run) -> &'static str {
    if run.arms.len() > 1 { ": A is the whole line, B the broken one" } else { "" }
}

fn names(run: &Run) -> impl Iterator<Item = &'static str> {
    let named = run.arms.len() > 1;
    ["A: ", "B: "].into_iter().map(move |name| if named { name } else { "" })
}

/// The times by how rare they are: (decimal logarithm of one in how many, seconds). Steps that fall onto the same point
/// are one.
fn tail(times: &Distribution, nines: f64) -> Vec<(f64, f64)> {
    let count = as_f64(times.count());
    let mut points: Vec<(f64, f64)> = Vec::new();
    for (upper, seen) in times.steps() {
        let rest = (count - as_f64(seen)).max(1.0);
        let point = ((count / rest).log10(), upper.as_secs_f64());
        if points.is_empty() {
            points.push((0.0, point.1));
        }
        let apart = nines / as_f64(POINTS as u64);
        match points.last_mut() {
            Some(last) if points_alike(*last, point, apart) => *last = point,
            _ => points.push(point),
        }
    }
    points
}

fn points_alike(a: (f64, f64), b: (f64, f64), apart: f64) -> bool {
    a.0 > 0.0 && (a.0 / apart).floor() >= (b.0 / apart).floor()
}

/// Round values from a low one to a high one, some five of them.
fn round(low: f64, high: f64) -> Vec<f64> {
    let power = 10_f64.powf(((high - low) / 5.0).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|step| step * power).into_iter().find(|step| (high - low) / step <= 6.0);
    let Some(step) = step.filter(|step| step.is_finite() && *step > 0.0) else { return Vec::new() };
    let first = (low / step).ceil();
    (0_u32..8).map(|n| (first + f64::from(n)) * step).take_while(|value| *value <= high).collect()
}

/// Round values on a logarithmic axis, at most eight.
fn decades(low: f64, high: f64) -> Vec<f64> {
    let marks = |digits: &[f64]| -> Vec<f64> {
        let all = (-9_i32..=4).flat_map(|power| digits.iter().map(move |digit| digit * 10_f64.powi(power)));
        all.filter(|value| (low..=high).contains(value)).collect()
    };
    match marks(&[1.0, 2.0, 5.0]) {
        few if few.len() < 3 => round(low, high),
        some if some.len() <= 8 => some,
        _ => marks(&[1.0]),
    }
}

fn percentiles(nines: f64) -> Vec<(f64, String)> {
    let names = ["0 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %", "99.9999 %", "99.99999 %", "99.999999 %"];
    let middle = std::iter::once((2_f64.log10(), "50 %"));
    let all = (0_u32..).map(f64::from).zip(names).chain(middle);
    all.filter(|(at, _)| *at <= nines).map(|(at, name)| (at, name.to_owned())).collect()
}

fn seconds(value: f64) -> String {
    time(Duration::try_from_secs_f64(value).unwrap_or_default())
}

/// Moments of failures, as many as can be told apart.
fn thinned(at: &[f64], end: f64) -> Vec<f64> {
    let apart = end / as_f64(POINTS as u64);
    let mut shown: Vec<f64> = Vec::new();
    let mut sorted = at.to_vec();
    sorted.sort_by(f64::total_cmp);
    for at in sorted {
        if shown.last().is_none_or(|last| at - last >= apart) {
            shown.push(at);
        }
    }
    shown
}
