//! All watched objects, and which Services an event touches. Pure: no clock, no client.
