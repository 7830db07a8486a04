//! The statistics that verdicts rest on: pure functions of numbers.
