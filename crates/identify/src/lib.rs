//! Verified keys and tokens become a Caller; the only maker of one.
