//! Numbers for people: three significant digits and a unit. Reports and progress on a terminal share them.

use std::time::Duration;

use crate::report::count;

/// Decimal units, as networks are measured in.
const DECIMAL: [(f64, &str); 6] = [(1.0, ""), (1e3, "k"), (1e6, "M"), (1e9, "G"), (1e12, "T"), (1e15, "P")];

/// Units of time, in seconds.
const TIMES: [(f64, &str); 4] = [(1e-9, "ns"), (1e-6, "us"), (1e-3, "ms"), (1.0, "s")];

/// The bars of a sparkline, lowest first.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Payload per second: `3.42 GB/s`.
#[must_use]
pub fn bytes_per_second(value: f64) -> String {
    scaled(value, &DECIMAL, "B/s")
}

/// The same in bits, as lines and ports are sold: `27.4 Gbit/s`.
#[must_use]
pub fn bits_per_second(value: f64) -> String {
    scaled(value * 8.0, &DECIMAL, "bit/s")
}

/// How often per second: `48,213/s`, `12.7/s`.
#[must_use]
pub fn per_second(value: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts of floats saturate")]
    if value >= 999.5 { format!("{}/s", count(value.round() as u64)) } else { format!("{}/s", digits(value)) }
}

/// An amount of bytes that was counted: `34.2 GB`.
#[must_use]
pub fn bytes(n: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    scaled(n as f64, &DECIMAL, "B")
}

/// An amount of bytes that was asked for, in binary units where it is a whole number of them: `256 MiB`.
#[must_use]
pub fn size(n: u64) -> String {
    let unit =
        [(30, "GiB"), (20, "MiB"), (10, "KiB")].into_iter().find(|(bits, _)| n > 0 && n.is_multiple_of(1 << bits));
    unit.map_or_else(|| bytes(n), |(bits, unit)| format!("{} {unit}", count(n >> bits)))
}

/// A time: `312 ns`, `41.3 us`, `1.23 ms`, `65.4 s`.
#[must_use]
pub fn time(time: Duration) -> String {
    scaled(time.as_secs_f64(), &TIMES, "")
}

/// A share: `9.8 %`, `0.03 %`, `5 %`.
#[must_use]
pub fn percent(share: f64) -> String {
    format!("{} %", hundredths(share))
}

/// A share that is a lower bound, rounded up so that it still is one: `6.1 %`.
pub(super) fn at_least(share: f64) -> String {
    // A little less, so that what is round already stays so.
    percent((share * 1000.0 - 1e-6).ceil() / 1000.0)
}

/// A share without the sign, for ranges.
pub(super) fn hundredths(share: f64) -> String {
    let value = share * 100.0;
    if value > 0.0 && value < 0.005 {
        return "< 0.01".to_owned();
    }
    let places = usize::from(value < 0.095) + 1;
    let text = format!("{value:.places$}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// One line that shows how values went, from nothing (`_`) to the highest; more values than columns are averaged.
#[must_use]
pub fn sparkline(values: &[f64], width: usize) -> String {
    let values: Vec<f64> = averaged(values, width).collect();
    let highest = values.iter().copied().fold(0.0, f64::max);
    let bar = |value: f64| {
        if value <= 0.0 {
            return '_';
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 8")]
        let step = (value / highest * 8.0).ceil() as usize;
        BARS[step.clamp(1, BARS.len()) - 1]
    };
    values.into_iter().map(bar).collect()
}

/// At most so many values: means of neighbours. What is no number counts as nothing.
pub(super) fn averaged(values: &[f64], most: usize) -> impl Iterator<Item = f64> + '_ {
    let most = most.clamp(1, values.len().max(1));
    let at = move |n: usize| n * values.len() / most;
    (0..most).map(move |n| &values[at(n)..at(n + 1)]).filter(|part| !part.is_empty()).map(|part| {
        #[expect(clippy::cast_precision_loss, reason = "few values")]
        let len = part.len() as f64;
        part.iter().filter(|value| value.is_finite()).sum::<f64>() / len
    })
}

/// A value in the first of the units (ascending) in which it has at most three digits before the point.
fn scaled(value: f64, units: &[(f64, &str)], base: &str) -> String {
    if value <= 0.0 {
        let unit = units.iter().find(|(size, _)| *size >= 1.0).map_or("", |(_, unit)| unit);
        return format!("0 {unit}{base}");
    }
    let fits = |(size, _): &&(f64, &str)| value / size < 999.5;
    let (size, unit) = units.iter().find(fits).or(units.last()).copied().unwrap_or((1.0, ""));
    format!("{} {unit}{base}", digits(value / size))
}

/// Three significant digits, and no more than a whole number needs.
fn digits(value: f64) -> String {
    let places = match value {
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    let text = format!("{value:.places$}");
    if text.contains('.') && value.fract() == 0.0 { format!("{value:.0}") } else { text }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn three_digits_never_jump_units() {
        for (value, text) in [
            (0.0, "0 B/s"),
            (999.4, "999 B/s"),
            (999.5, "1.00 kB/s"),
            (3.418e9, "3.42 GB/s"),
            (9.996e6, "10.0 MB/s"),
            (99.96e6, "100 MB/s"),
            (1e20, "100000 PB/s"),
        ] {
            assert_eq!(bytes_per_second(value), text);
        }
        for (ns, text) in [(1, "1 ns"), (41_312, "41.3 us"), (999_600, "1.00 ms"), (65_400_000_000, "65.4 s")] {
            assert_eq!(time(Duration::from_nanos(ns)), text);
        }
        assert_eq!(time(Duration::ZERO), "0 s");
        assert_eq!(bits_per_second(3.42e9), "27.4 Gbit/s");
        assert_eq!([per_second(48_213.4), per_second(12.71), per_second(0.0)], ["48,213/s", "12.7/s", "0/s"]);
        assert_eq!([size(256 << 20), size(1000), size(0), size(1536)], ["256 MiB", "1 kB", "0 B", "1.54 kB"]);
    }

    #[test]
    fn shares_are_as_long_as_they_must_be() {
        for (share, text) in
            [(0.098, "9.8 %"), (0.05, "5 %"), (0.000_31, "0.03 %"), (0.0, "0 %"), (1e-9, "< 0.01 %"), (1.0, "100 %")]
        {
            assert_eq!(percent(share), text);
        }
        assert_eq!([at_least(0.0604), at_least(0.06), at_least(0.000_3)], ["6.1 %", "6 %", "0.1 %"]);
    }

    #[test]
    fn a_sparkline_begins_at_nothing() {
        assert_eq!(sparkline(&[0.0, 1.0, 4.0, 8.0], 10), "_▁▄█");
        assert_eq!(sparkline(&[1.0, 1.0, 3.0, 3.0], 2), "▃█");
        assert_eq!(sparkline(&[], 10), "");
        assert_eq!(sparkline(&[0.0, 0.0], 10), "__");
    }

    proptest! {
        #[test]
        fn a_sparkline_keeps_its_width_whatever_it_is_given(values in prop::collection::vec(any::<f64>(), 0..300), width in 0_usize..100) {
            let line = sparkline(&values, width);
            prop_assert_eq!(line.chars().count(), values.len().min(width.max(1)));
            prop_assert!(line.chars().all(|c| c == '_' || BARS.contains(&c)));
        }
    }
}
