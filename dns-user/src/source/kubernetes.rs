//! The API server's watch.
