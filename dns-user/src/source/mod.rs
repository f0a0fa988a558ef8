//! Where objects come from. Each source sends [`crate::objects::Event`]s into a
//! channel and goes on until it is dropped; it never ends because of one object.

pub mod directory;
pub mod kubernetes;
