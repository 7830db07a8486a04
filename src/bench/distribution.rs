//! Times, kept so that their tail keeps its precision and that several add up exactly.

use std::{fmt, io::Read as _, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use flate2::read::ZlibDecoder;
use hdrhistogram::{
    Histogram,
    serialization::{Deserializer, Serializer as _, V2DeflateSerializer},
};
use serde::{Deserialize, Serialize, de, ser};

use super::run::MAX_COUNT;

/// The longest time that is told apart: an hour, in nanoseconds.
const LONGEST: u64 = 3_600_000_000_000;

/// Significant decimal digits.
const DIGITS: u8 = 3;

/// A distribution of times, in nanoseconds, with three significant digits.
#[derive(Clone, PartialEq)]
pub struct Distribution(Histogram<u64>);

impl fmt::Debug for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not its many thousand steps.
        let (half, longest) = (self.quantile(0.5), self.max());
        f.debug_struct("Distribution").field("count", &self.count()).field("p50", &half).field("max", &longest).finish()
    }
}

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
        let written = Written::deserialize(deserializer)?;
        let read = decode(&written.hdr).map_err(|e| de::Error::custom(format!("the histogram {e}")))?;
        if read.len() != written.count || read.len() > MAX_COUNT {
            return Err(de::Error::custom("the histogram holds another number of times than is said"));
        }
        Ok(Self(read))
    }
}

/// Reads a histogram with the bounds of all of ours. Those are looked at first: the library would take as much memory as
/// the text asks for.
fn decode(text: &str) -> Result<Histogram<u64>, String> {
    /// Bytes of a payload's head: cookie, length, offset, digits, bounds, ratio.
    const HEAD: usize = 40;
    /// A step needs at most nine bytes, and there are fewer steps than this.
    const MOST: usize = 9 * (40 << 10);
    let cannot = |e: &dyn fmt::Debug| format!("cannot be read: {e:?}");
    if text.len() > 2 * MOST {
        return Err("is too large".to_owned());
    }
    let bytes = STANDARD.decode(text).map_err(|e| cannot(&e))?;
    let mut plain = Vec::new();
    let deflated = bytes.get(8..).ok_or("is too short")?;
    let limit = (HEAD + MOST) as u64;
    ZlibDecoder::new(deflated).take(limit + 1).read_to_end(&mut plain).map_err(|e| cannot(&e))?;
    let (head, payload) = plain.split_at_checked(HEAD).ok_or("is too short")?;
    // No offset, our digits and bounds, and counts as they are.
    let (digits, ratio) = (u32::from(DIGITS).to_be_bytes(), 1.0_f64.to_be_bytes());
    let ours = [[0; 4].as_slice(), &digits, &1_u64.to_be_bytes(), &LONGEST.to_be_bytes(), &ratio].concat();
    let length = |head: &[u8]| head[4..8].iter().fold(0, |n, &byte| n << 8 | usize::from(byte));
    if head[8..] != ours {
        return Err("has other bounds than ours".to_owned());
    }
    // The library negates what these bytes stand for, which has no opposite; no count is that large.
    if length(head) != payload.len() || payload.len() > MOST || payload.windows(9).any(|bytes| bytes == [0xff; 9]) {
        return Err("is damaged".to_owned());
    }
    Deserializer::new().deserialize(&mut plain.as_slice()).map_err(|e| cannot(&e))
}

#[cfg(test)]
mod tests {
    use flate2::{Compression, read::ZlibEncoder};
    use hdrhistogram::serialization::V2Serializer;

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

    /// Written by the `HdrHistogram` of Python: n * n * 977 for n from 1 to 1000, with the same bounds.
    const PYTHON: &str = "HISTFAAAAc54nJWNMYsTQRiG8z2buCxhCTHIEc4jiIgEERURkSCHiB4iImIlcliIWIiIiFxhJWhxWB1XpBA5RY4g/oDYiYWF1RVyXCkW1tpaiE5md2d3dmdiLg/P+77fJJD9z9Y7tVr4p5Z8grRFzYvHP7yuLf5KHt602OixtZf3MZsRo4jhHtZCvtf5VOdvnc06v+FlwDhgJ2AbVmEIIxjDZ/gKW8JY+Ch8kcneFr4JP4Sfwo7whKfCc2FVeCGsCevCUHglbAhvhZHwTnjEDcVNlrnFbcUd7irucZ8HPFQ8ZkWxzICzLCrOKc5rLrCkuaS4zBXNVcU1xXXNEn2OGI5qjmlPpJ5UmXhKO+G04YxmoB3QY54FTc+YccCYcNCYcUhb5LA2p2/sq3/qKPaZTMwyY67Qcyaz7qZX12TXZM68ycQscxZMTmwR01QWaZVWnol22iujXVptp+1C++iU0rZT6OJqESnCVFfmXd5Vms6r6Ux7NSvLzrzL20Xs2MWOPSv2LLtDGpogbR/hf1/DyrJ7WobOy61/2env4qpeuyfyXpGzq1fkuKtXYmCQqcu/fS/T32ehMfM3De/VmGnZ7bpmTd+qXrvXd5WX79X1m6T/Ac31aaI=";

    #[test]
    fn what_other_programs_write_is_read_and_written_alike() {
        let read = Distribution(decode(PYTHON).unwrap());
        let at = |share| read.quantile(share).unwrap().as_nanos();
        assert_eq!((read.count(), at(0.5), at(0.99)), (1000, 244_318_207, 957_874_175));
        let mut own = Distribution::default();
        for n in 1..=1000_u32 {
            own.record(Duration::from_nanos(u64::from(n) * u64::from(n) * 977));
        }
        assert_eq!(own.steps().collect::<Vec<_>>(), read.steps().collect::<Vec<_>>());
        let json = serde_json::to_string(&own).unwrap();
        assert!(json.contains("\"hdr\":\"HISTFAAA"), "the mark of HDR's second form, deflated: {json}");
    }

    #[test]
    fn a_histogram_that_asks_for_much_is_refused_before_it_gets_it() {
        let mut plain = Vec::new();
        V2Serializer::new().serialize(&Distribution::default().0, &mut plain).unwrap();
        let pack = |plain: &[u8]| {
            let mut deflated = Vec::new();
            ZlibEncoder::new(plain, Compression::best()).read_to_end(&mut deflated).unwrap();
            let length = u32::try_from(deflated.len()).unwrap().to_be_bytes();
            STANDARD.encode([&[0x1c, 0x84, 0x93, 0x14], length.as_slice(), &deflated].concat())
        };
        assert!(decode(&pack(&plain)).is_ok());
        // A payload of 4 GiB that is not there, other bounds, a bomb, and a run of zeros without an opposite.
        let changed = |at: usize, bytes: &[u8]| {
            let mut changed = plain.clone();
            changed[at..at + bytes.len()].copy_from_slice(bytes);
            changed
        };
        let mut minimum = changed(4, &9_u32.to_be_bytes());
        minimum.truncate(40);
        minimum.extend([0xff; 9]);
        for hostile in [changed(4, &[0xff; 4]), changed(12, &[0, 0, 0, 5]), vec![0; 64 << 20], minimum] {
            assert!(decode(&pack(&hostile)).is_err());
        }
    }
}
