//! The use cases of people who run it, each an Ask.
