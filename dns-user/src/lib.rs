//! The agent of nodedns.
//!
//! An event goes one way through the modules: [`source`] turns what the API
//! server or a manifest folder says into [`objects`], [`index`] keeps them and
//! says which Services changed, [`records`] makes owner names with addresses of
//! a Service, and [`store`] brings the kernel's map to that state.
//! A query that the kernel passes up goes `server -> answers -> cache -> forward`;
//! it is answered by [`cluster`], of which the kernel's records are a part.

pub mod args;
pub mod config;
pub mod incumbent;

pub mod objects;

pub mod source;

pub mod corefile;

pub mod index;

pub mod records;

pub mod cluster;

pub mod state;

pub mod upstreams;

pub mod store;

pub mod datapath;

pub mod scope;

pub mod message;

pub mod cache;

pub mod answers;

pub mod forward;

pub mod server;

pub mod health;

pub mod metrics;

pub mod http;

pub mod env;

pub mod clock;
pub mod lease;
pub mod memory;
pub mod node;

pub mod inspect;
pub mod logs;

pub mod pipeline;

pub mod agent;
