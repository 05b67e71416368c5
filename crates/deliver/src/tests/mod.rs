//! The courier against scripted parts.

mod courier;
