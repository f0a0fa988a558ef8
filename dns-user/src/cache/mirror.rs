//! Where what is kept is given without the agent: the kernel's CACHE.

use std::time::Instant;

use super::{Kind, Response};
use crate::message::Question;

/// A response that somebody else may give, too, while it is good.
#[derive(Clone, Copy, Debug)]
pub struct Kept<'a> {
    /// What it answers.
    pub question: Question<'a>,
    /// Whether it was asked for with DO.
    pub dnssec_ok: bool,
    /// Whether it was asked for with CD.
    pub checking_disabled: bool,
    /// The response.
    pub response: &'a Response,
    /// What it says.
    pub kind: Kind,
    /// When the TTL of its records is 0.
    pub expires_at: Instant,
    /// From when on it is to be left to the agent, which renews what is asked for.
    pub due_at: Instant,
}

/// Gives responses in the agent's place. What cannot be given is not there
/// afterwards; failures are the mirror's to report.
pub trait Mirror: Send {
    /// Gives a response, in place of an older one to the same question.
    fn put(&mut self, kept: &Kept<'_>);
    /// Gives none of them any longer.
    fn clear(&mut self);
}
