//! What every daemon of baton shares with the world outside its own reasoning: the clock, mutual
//! TLS and the roles written in certificates, HTTP in both directions, configuration files, logs,
//! signals and files that survive a power cut.
//!
//! Nothing here decides anything; the law is in the crate `failover`. Deliberately absent:
//! retries (they belong to loops), caches, and any identity other than a certificate.

pub mod ca;
pub mod clock;
pub mod config;
pub mod exit;
pub mod files;
pub mod http;
pub mod listen;
pub mod log;
pub mod monitoring;
pub mod role;
pub mod scrub;
pub mod shutdown;
pub mod tls;
mod verifier;
