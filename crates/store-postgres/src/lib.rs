//! The state database on PostgreSQL.
