//! What the JSON APIs of all services share: input, answers, errors, access and their description.
//!
//! Used by `http/{metadata,storage,queue,third_party,admin}.rs`. An API is a list of operations
//! ([`operation`]): each is declared once, and both its route and its OpenAPI description come from
//! that. [`Api::finish`] puts the common frame around it ([`frame`]).
//!
//! - `JSON-1` an answer that is no success is the one error body ([`super::error::ApiError`]), also
//!   for unknown paths and wrong methods;
//! - `JSON-2` no body is read beyond its limit, no list is longer than [`MAX_LIST`];
//! - `JSON-3` answers are those of the second generation; with
//!   `Accept: application/vnd.mocks3.v1+json` they come in the envelope of the first.

pub mod access;
pub mod bucket;
pub mod frame;
pub mod head;
pub mod input;
pub mod object;
pub mod operation;
pub mod refusal;

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::Semaphore;
use utoipa::ToSchema;

use crate::config::Config;
use crate::objects;

pub use access::{Gate, Peer};
pub use frame::RequestScope;
pub use input::{Body, Input, ObjectPath, Params, ParamsInput, Segment};
pub use operation::{Api, Operation};

/// The most entries in one answer.
pub const MAX_LIST: u32 = 1000;
/// How long one request may take that moves no object bytes.
pub const CALL_LIMIT: Duration = Duration::from_secs(30);
/// How long one request may take that moves object bytes; stalls are noticed much earlier.
pub const TRANSFER_LIMIT: Duration = Duration::from_secs(3600);
/// How many KiB of JSON bodies that carry object bytes may be in memory at once.
pub const UPLOAD_BUDGET_KIB: usize = 32 * 1024;

/// What the JSON APIs work with. Cheap to clone.
#[derive(Clone)]
pub struct JsonEnv {
    /// The flows.
    pub objects: objects::Env,
    /// The user as whom unsigned requests act.
    pub owner: Arc<str>,
    /// Whether an upload makes its bucket.
    pub create_buckets: bool,
    /// Bounds the JSON bodies that carry object bytes; one permit a KiB.
    pub uploads: Arc<Semaphore>,
    /// Who is let in.
    pub gate: Gate,
}

impl JsonEnv {
    /// The environment that a configuration asks for.
    pub fn new(objects: objects::Env, config: &Config) -> Self {
        let first = || config.s3.all_users().first().map(|u| u.name.clone()).unwrap_or_default();
        let owner = match config.http.json_owner.as_str() {
            "" => first(),
            named => named.to_owned(),
        };
        JsonEnv {
            objects,
            owner: owner.into(),
            create_buckets: config.http.create_buckets,
            uploads: Arc::new(Semaphore::new(UPLOAD_BUDGET_KIB)),
            gate: Gate::new(&config.http.token, &config.http.trusted_networks),
        }
    }
}

/// The answer to a change that has nothing else to tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Done {
    /// Always true.
    pub success: bool,
    /// What was done.
    pub message: String,
}

impl Done {
    /// Says what was done.
    pub fn new(message: impl Into<String>) -> Self {
        Done { success: true, message: message.into() }
    }
}
