//! CoreDNS's own settings, from its Corefile.

mod lexer;
mod parser;
mod settings;

pub use parser::{Corefile, Directive, ServerBlock};
pub use settings::{
    Cache, Cause, ClusterSettings, DEFAULT_TTL_S, DEFAULT_ZONE, EndpointNames, Exposed, Forwarded,
    LeftZone, Pods, REVERSE_ROOTS, ReverseZone, Selector, TtlRange, Ttls, WantedPods, ZoneSettings,
    Zones, cluster_zones,
};
