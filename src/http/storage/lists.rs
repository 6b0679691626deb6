//! Listings of a bucket.

use axum::Json;
use axum::extract::State;
use futures::{StreamExt, TryStreamExt};
use serde::Deserialize;
use utoipa::IntoParams;

use super::model::{Listing, ObjectLine};
use crate::actors::metadata::query::{ListEntry, ListStart};
use crate::http::error::ApiError;
use crate::http::json::input::check_limit;
use crate::http::json::object::lookup;
use crate::http::json::{CALL_LIMIT, JsonEnv, MAX_LIST, Params, ParamsInput, RequestScope};
use crate::objects::error::FlowError;
use crate::objects::list::{self, Selection};

/// Lookups at once for the lines of one page.
const LOOKUPS: usize = 16;

/// Parameters of a listing.
#[derive(Debug, Deserialize, IntoParams)]
pub struct ListParams {
    /// The bucket.
    #[param(example = "photos")]
    bucket: String,
    /// Only keys that begin so.
    #[serde(default)]
    #[param(example = "2026/")]
    prefix: String,
    /// Groups keys up to this text after the prefix.
    #[serde(default)]
    #[param(example = "/")]
    delimiter: String,
    /// At most so many objects and common prefixes; more than 1000 are cut to 1000.
    #[serde(default = "thousand")]
    #[param(example = 1000)]
    max_keys: u32,
    /// Begins behind this key; a text that ends with the delimiter is a common prefix, and the page
    /// begins behind all of it. `next_marker` of a page gives the next one.
    #[serde(default)]
    #[param(example = "")]
    start_after: String,
}

fn thousand() -> u32 {
    MAX_LIST
}

impl ParamsInput for ListParams {
    const EXAMPLE: &'static str = "?bucket=photos&prefix=2026/&delimiter=/&max_keys=1000";

    fn check(&self) -> Result<(), ApiError> {
        check_limit("max_keys", self.max_keys)
    }
}

impl ListParams {
    fn start(&self) -> ListStart {
        let from = self.start_after.clone();
        if from.is_empty() {
            ListStart::First
        } else if !self.delimiter.is_empty() && from.ends_with(&self.delimiter) {
            ListStart::AfterEntry { entry: from }
        } else {
            ListStart::AfterKey { key: from }
        }
    }
}

/// `GET /api/v1/objects`.
pub async fn list(
    State(env): State<JsonEnv>,
    scope: RequestScope,
    Params(mut params): Params<ListParams>,
) -> Result<Json<Listing>, ApiError> {
    let scope = scope.with(CALL_LIMIT);
    params.max_keys = params.max_keys.min(MAX_LIST);
    let what = Selection {
        bucket: params.bucket.clone(),
        caller: env.owner.to_string(),
        prefix: params.prefix.clone(),
        delimiter: params.delimiter.clone(),
        max: params.max_keys,
    };
    let page = list::objects(&env.objects, &scope, what, params.start()).await?;
    let (mut keys, mut common_prefixes) = (Vec::new(), Vec::new());
    for entry in page.entries {
        match entry {
            ListEntry::Object { key, .. } => keys.push(key),
            ListEntry::CommonPrefix { prefix } => common_prefixes.push(prefix),
        }
    }
    let (env, scope, bucket) = (&env, &scope, &params.bucket);
    let lines = futures::stream::iter(keys).map(|key| async move {
        let (_, found) = lookup(env, scope, bucket, &key).await?;
        // one that was deleted between the listing and the lookup is left out
        Ok::<_, FlowError>(found.map(|(info, _)| ObjectLine::new(bucket, key, info)))
    });
    let lines: Vec<Option<ObjectLine>> = lines.buffered(LOOKUPS).try_collect().await?;
    let objects: Vec<ObjectLine> = lines.into_iter().flatten().collect();
    Ok(Json(Listing {
        count: objects.len() + common_prefixes.len(),
        is_truncated: page.next.is_some(),
        next_marker: page.next.unwrap_or_default(),
        objects,
        common_prefixes,
        bucket: params.bucket,
        prefix: params.prefix,
        delimiter: params.delimiter,
        max_keys: params.max_keys,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_begins_behind_a_key_or_behind_a_whole_common_prefix() {
        let start = |delimiter: &str, start_after: &str| {
            let (delimiter, start_after) = (delimiter.to_owned(), start_after.to_owned());
            let (bucket, prefix) = ("photos".to_owned(), String::new());
            ListParams { bucket, prefix, delimiter, max_keys: 1, start_after }.start()
        };
        let key = |key: &str| ListStart::AfterKey { key: key.into() };
        assert_eq!(start("/", ""), ListStart::First);
        assert_eq!(start("/", "a"), key("a"));
        assert_eq!(start("", "a/"), key("a/"));
        assert_eq!(start("/", "a/"), ListStart::AfterEntry { entry: "a/".into() });
    }
}
