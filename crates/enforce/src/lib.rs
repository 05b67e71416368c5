//! The request path as one readable stack.
