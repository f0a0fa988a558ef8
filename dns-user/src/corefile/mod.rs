//! CoreDNS's own settings, from its Corefile.

mod lexer;
mod parser;
mod settings;

pub use parser::{Corefile, Directive, ServerBlock};
pub use settings::{
    ClusterSettings, DEFAULT_TTL_S, DEFAULT_ZONE, EndpointNames, Forwarded, Pods, ReverseZone,
    TtlRange, Ttls, ZoneSettings, cluster_zone,
};
