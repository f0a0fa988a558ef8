//! From the API's service.
