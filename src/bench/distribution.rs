//! Times, kept so that their tail keeps its precision and that several add up exactly.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hdrhistogram::{
    Histogram,
    serialization::{Deserializer, Serializer as _, V2DeflateSerializer},
};
use serde::{Deserialize, Serialize, de, ser};

/// The longest time that is told apart: an hour, in nanoseconds.
const LONGEST: u64 = 3_600_000_000_000;

/// Significant decimal digits.
const DIGITS: u8 = 3;

/// A distribution of times, in nanoseconds, with three significant digits.
#[derive(Debug, Clone, PartialEq)]
pub struct Distribution(Histogram<u64>);

impl Default for Distribution {
    fn default() -> Self {
        // The bounds are constants that the library takes.
        Self(Histogram::new_with_bounds(1, LONGEST, DIGITS).expect("constant bounds"))
    }
}

impl Distribution {
    /// Adds a time; longer ones than an hour count as an hour.
    pub fn record(&mut self, time: Duration) {
        self.0.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(LONGEST).max(1));
    }

    /// Adds everything that another holds.
    pub fn add(&mut self, other: &Self) {
        // Both have the same bounds, so that everything fits.
        let _ = self.0.add(&other.0);
    }

    /// How many times it holds.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The time that this share (0 to 1) does not exceed; `None`: it holds none.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        (!self.is_empty()).then(|| Duration::from_nanos(self.0.value_at_quantile(share)))
    }

    /// The longest time.
    #[must_use]
    pub fn max(&self) -> Option<Duration> {
        (!self.is_empty()).then(|| Duration::from_nanos(self.0.max()))
    }

    /// The mean.
    #[must_use]
    pub fn mean(&self) -> Option<Duration> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "no time is negative or beyond an hour"
        )]
        (!self.is_empty()).then(|| Duration::from_nanos(self.0.mean() as u64))
    }

    /// Upper ends of the steps that hold something, with how many there are up to and with each.
    pub fn steps(&self) -> impl Iterator<Item = (Duration, u64)> + '_ {
        self.0.iter_recorded().scan(0, |seen, step| {
            *seen += step.count_since_last_iteration();
            Some((Duration::from_nanos(step.value_iterated_to()), *seen))
        })
    }
}

/// As reports have it: figures to read, and all of it in HDR histogram's V2 encoding, deflated, in base64.
#[derive(Serialize, Deserialize)]
struct Written {
    count: u64,
    mean_ns: u64,
    p50_ns: u64,
    p90_ns: u64,
    p99_ns: u64,
    p999_ns: u64,
    max_ns: u64,
    hdr: String,
}

impl Serialize for Distribution {
    fn serialize<S: ser::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::new();
        V2DeflateSerializer::new().serialize(&self.0, &mut bytes).map_err(ser::Error::custom)?;
        let ns = |time: Option<Duration>| time.map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(LONGEST));
        let at = |share| ns(self.quantile(share));
        let written = Written {
            count: self.count(),
            mean_ns: ns(self.mean()),
            p50_ns: at(0.5),
            p90_ns: at(0.9),
            p99_ns: at(0.99),
            p999_ns: at(0.999),
            max_ns: ns(self.max()),
            hdr: STANDARD.encode(bytes),
        };
        written.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Distribution {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// A histogram with these bounds needs less; a larger one is none of ours.
        const MOST: usize = 4 << 20;
        let hdr = Written::deserialize(deserializer)?.hdr;
        if hdr.len() > MOST {
            return Err(de::Error::custom("the histogram is too large"));
        }
        let bytes = STANDARD.decode(hdr).map_err(de::Error::custom)?;
        let read: Histogram<u64> = Deserializer::new()
            .deserialize(&mut bytes.as_slice())
            .map_err(|e| de::Error::custom(format!("the histogram cannot be read: {e:?}")))?;
        let mut own = Self::default();
        own.0.add(&read).map_err(|e| de::Error::custom(format!("the histogram has other bounds: {e:?}")))?;
        Ok(own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_exactly() {
        let mut times = Distribution::default();
        for n in 1..=10_000_u32 {
            times.record(Duration::from_nanos(u64::from(n) * 977));
        }
        times.record(Duration::from_secs(7200));
        let text = serde_json::to_string(&times).unwrap();
        assert_eq!(serde_json::from_str::<Distribution>(&text).unwrap(), times);
        let ratio = times.quantile(0.5).unwrap().as_secs_f64() / 4.885e-3;
        assert!((0.998..1.002).contains(&ratio), "{ratio}");
    }

    #[test]
    fn sums_hold_what_their_parts_hold() {
        let (mut a, mut b) = (Distribution::default(), Distribution::default());
        a.record(Duration::from_micros(5));
        b.record(Duration::from_secs(3));
        let mut both = a.clone();
        both.add(&b);
        a.record(Duration::from_secs(3));
        assert_eq!(both, a);
        assert_eq!(both.steps().last().unwrap().1, 2);
    }

    #[test]
    fn a_histogram_that_is_none_is_an_error() {
        for hdr in ["", "AAAA", "%%%"] {
            let text = format!(
                r#"{{"count":1,"mean_ns":1,"p50_ns":1,"p90_ns":1,"p99_ns":1,"p999_ns":1,"max_ns":1,"hdr":"{hdr}"}}"#
            );
            assert!(serde_json::from_str::<Distribution>(&text).is_err(), "{hdr}");
        }
    }
}
