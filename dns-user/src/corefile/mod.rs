//! CoreDNS's own settings, from its Corefile.

mod lexer;
mod parser;
mod settings;

pub use parser::{Corefile, Directive, ServerBlock};
pub use settings::{DEFAULT_TTL_S, DEFAULT_ZONE, ZoneSettings, cluster_zone};
