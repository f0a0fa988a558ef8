//! The agent's place on the node: the addresses that queries are sent to, and what
//! happens to queries when no agent answers.

pub mod address;
pub mod fall_through;
pub mod heartbeat;
