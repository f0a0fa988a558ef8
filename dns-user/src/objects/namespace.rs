//! From the API's namespace.
