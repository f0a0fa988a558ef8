//! The parts every test is made of.
//!
//! [`kernel`] says whether this machine can run a test at all.
//! [`netns`] makes network namespaces, [`node`] joins a node and its pods with
//! veth pairs. [`packet`] builds frames, reads them and compares them;
//! [`client`] sends queries from inside a namespace, [`upstream`] answers them,
//! [`http`] asks for readiness and metrics; [`raw`] sends and receives frames,
//! [`dnsperf`] asks as fast as it can.
//! [`process`] guards what is started: [`agent`], [`coredns`], [`kubernetes`].
//! [`objects`] builds the Kubernetes objects that they are told about,
//! [`manifests`] keeps some in a folder.
//!
//! Everything ends with its guard: processes by PID, namespaces by name, pins
//! by folder. Names carry the PID of the test, so tests run side by side, and
//! what a killed test left behind is removed by the next one ([`sweep`]).
#![expect(
    clippy::missing_panics_doc,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on panics with a message; it has nobody to return an error to"
)]

pub mod kernel;
pub mod sweep;
pub mod tools;
pub mod wait;

pub mod netns;
pub mod node;
pub mod nodes;
pub mod offload;
pub mod resolver;

pub mod packet;

pub mod client;
pub mod client_load;
pub mod http;
pub mod raw;
pub mod steady;
pub mod upstream;

pub mod fuzz;
pub mod known;
pub mod manifests;
pub mod model;
pub mod pool;
pub mod subject;

pub mod process;

pub mod agent;
pub mod api_server;
pub mod coredns;
pub mod corefile;
pub mod credentials;
pub mod kubernetes;
pub mod objects;

pub mod cluster;
pub mod dnsperf;
pub mod feed;
