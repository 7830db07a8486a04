//! The payload: the numbers from 0 to 250 over and over, so that no power of two is a multiple of the period, and bytes
//! that are lost, doubled or misplaced show.

use std::{fs::File, io::Write as _, sync::LazyLock};

use nix::sys::memfd::{MFdFlags, memfd_create};

/// After so many bytes it begins again.
const PERIOD: usize = 251;

/// A whole number of periods and of pages.
const LENGTH: usize = PERIOD * 4096;

static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| (0..=250).cycle().take(LENGTH).collect());

/// The same as a file in memory, from which the kernel can send; `None`: it has no such files.
static FILE: LazyLock<Option<File>> = LazyLock::new(|| {
    let mut file = File::from(memfd_create("snapreach-payload", MFdFlags::MFD_CLOEXEC).ok()?);
    file.write_all(&BYTES).ok()?;
    Some(file)
});

/// How the payload goes on from a place in it: at least one byte.
pub(super) fn from(at: u64) -> &'static [u8] {
    &BYTES[usize::try_from(at % LENGTH as u64).unwrap_or(0)..]
}

/// The payload as a file that repeats; likewise, the place in it and how many bytes are left there.
pub(super) fn file(at: u64) -> Option<(&'static File, usize, usize)> {
    let file = FILE.as_ref()?;
    let offset = usize::try_from(at % LENGTH as u64).unwrap_or(0);
    Some((file, offset, LENGTH - offset))
}

/// Where bytes stop being the payload from `at` on.
pub(super) fn difference(at: u64, bytes: &[u8]) -> Option<u64> {
    /// So much of it stays in a processor's nearest cache.
    const WINDOW: usize = PERIOD * 64;
    let mut done = 0;
    while done < bytes.len() {
        let start = usize::try_from((at + done as u64) % PERIOD as u64).unwrap_or(0);
        let n = (bytes.len() - done).min(WINDOW);
        let (come, due) = (&bytes[done..done + n], &BYTES[start..start + n]);
        if come != due {
            let same = come.iter().zip(due).take_while(|(come, due)| come == due).count();
            return Some(at + (done + same) as u64);
        }
        done += n;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_found_where_it_is() {
        let payload =
            |start: u64, n: u64| (start..start + n).map(|at| u8::try_from(at % 251).unwrap()).collect::<Vec<_>>();
        for (at, n) in [(0, 0), (0, 1), (250, 2), (1 << 40, 300_000), (77, 251 * 64 + 3)] {
            let mut bytes = payload(at, n);
            assert_eq!(difference(at, &bytes), None, "{at} {n}");
            assert_eq!(from(at)[..from(at).len().min(100)], payload(at, from(at).len().min(100) as u64));
            for wrong in [0, n / 2, n.saturating_sub(1)] {
                let Some(byte) = bytes.get_mut(usize::try_from(wrong).unwrap()) else { continue };
                *byte ^= 0x80;
                assert_eq!(difference(at, &bytes), Some(at + wrong));
                bytes[usize::try_from(wrong).unwrap()] ^= 0x80;
            }
        }
        assert_eq!(difference(0, &payload(1, 10)), Some(0), "one byte was lost");
    }
}
