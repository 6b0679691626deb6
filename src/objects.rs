//! The S3 flows.

pub mod tasks;
