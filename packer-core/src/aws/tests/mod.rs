//! The whole room against a small AWS on loopback, which checks signatures.

mod calls;
mod chain;
mod fake;
mod files;
