//! nodedns.
fn main() {}
