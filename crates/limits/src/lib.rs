//! Limits, budgets and recent activity. Pure: time comes as a parameter, nothing is awaited, nothing is kept here.

pub mod activity;
pub mod breaker;
pub mod claim;
pub mod counter;
pub mod price;
pub mod window;

pub use activity::{Activities, Noted, Track, Tracks};
pub use claim::{Answer, Claim, Counters, Of, Reserved, Standing};
pub use counter::{Counter, Span};
pub use price::{Tokens, cost, price_at};
