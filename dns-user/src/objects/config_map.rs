//! From the API's config_map.
