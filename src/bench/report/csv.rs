//! What happened when, as comma-separated values for a spreadsheet.

use std::io::{self, Write};

use crate::bench::Run;

/// Writes the time series of every arm.
pub(super) fn write(run: &Run, out: &mut dyn Write) -> io::Result<()> {
    write!(out, "arm,slice,start_s,seconds,operations,bytes,failed\r\n")?;
    for (arm, name) in run.arms.iter().zip(["A", "B"]) {
        for at in arm.measurement.ticks() {
            write!(
                out,
                "{name},{},{:.6},{:.6},{},{},{}\r\n",
                at.slice + 1,
                at.start.as_secs_f64(),
                at.length.as_secs_f64(),
                at.tick.operations,
                at.tick.bytes,
                at.tick.failed
            )?;
        }
    }
    Ok(())
}
