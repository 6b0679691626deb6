//! The storage node.

pub mod message;
