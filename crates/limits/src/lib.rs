//! What was done lately, counted. Pure: time comes as a parameter, nothing is awaited.

pub mod activity;

pub use activity::{Activities, Noted, Track, Tracks};
