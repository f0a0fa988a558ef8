//! What every test needs.
