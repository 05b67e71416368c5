//! Listeners and routes of the data plane.
