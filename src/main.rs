//! The `snapreach` command.

fn main() {}
