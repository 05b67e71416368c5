//! Which path goes where.
