//! From the API's endpoint_slice.
