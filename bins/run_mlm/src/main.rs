//! run_mlm
fn main() {}
