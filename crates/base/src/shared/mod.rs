//! Collections whose copies share what they have in common: a change of one copies a small part of it, and everybody who
//! reads another goes on reading what was there.

mod map;
mod sorted;

pub use map::Map;
pub use sorted::Sorted;
