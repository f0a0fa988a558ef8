//! CoreDNS's own settings, from its Corefile.

mod lexer;
mod parser;
mod settings;

pub use parser::{Corefile, Directive, ServerBlock};
pub use settings::{
    Cause, ClusterSettings, DEFAULT_TTL_S, DEFAULT_ZONE, EndpointNames, Exposed, Forwarded,
    LeftZone, Pods, ReverseZone, Selector, Ttls, ZoneSettings, cluster_zone,
};
