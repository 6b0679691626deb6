//! Listings, search, counts and figures.

use axum::Json;
use axum::extract::State;
use futures::{StreamExt, TryStreamExt};
use serde::Deserialize;
use utoipa::IntoParams;

use super::model::{Count, Day, Figures, Found, Group, Listing, Row};
use super::rows::nodes;
use crate::actors::metadata::model::Refused;
use crate::actors::metadata::query::{
    DailyUploads, ListEntry, ListStart, Query, QueryReply, Stats,
};
use crate::cluster::Scope;
use crate::http::admin::rfc3339;
use crate::http::error::ApiError;
use crate::http::json::input::{check_limit, check_range};
use crate::http::json::object::lookup;
use crate::http::json::{CALL_LIMIT, JsonEnv, MAX_LIST, Params, ParamsInput, RequestScope};
use crate::objects::error::FlowError;
use crate::objects::metadata::{read, unexpected};
use crate::types::now_ms;

/// How far `offset` may skip; further pages go on with `start_after`.
const MAX_OFFSET: u32 = 10_000;
/// Lookups at once for the rows of one page.
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
    /// At most so many; more than 1000 are cut to 1000.
    #[serde(default = "hundred")]
    #[param(example = 100)]
    limit: u32,
    /// Skips so many, at most 10000.
    #[serde(default)]
    #[param(example = 0)]
    offset: u32,
    /// Begins behind this key.
    #[serde(default)]
    #[param(example = "")]
    start_after: String,
}

fn hundred() -> u32 {
    100
}

impl ParamsInput for ListParams {
    const EXAMPLE: &'static str = "?bucket=photos&prefix=2026/&limit=100&offset=0";

    fn check(&self) -> Result<(), ApiError> {
        check_limit("limit", self.limit)?;
        check_range("offset", self.offset, 0, MAX_OFFSET)
    }
}

/// `GET /api/v1/metadata`.
pub async fn list(
    State(env): State<JsonEnv>,
    scope: RequestScope,
    Params(mut params): Params<ListParams>,
) -> Result<Json<Listing>, ApiError> {
    let scope = scope.with(CALL_LIMIT);
    params.limit = params.limit.min(MAX_LIST);
    let (keys, next) = keys(&env, &scope, &params).await?;
    let names = keys.into_iter().map(|key| (params.bucket.clone(), key));
    let metadata = rows(&env, &scope, names.collect()).await?;
    Ok(Json(Listing {
        count: metadata.len(),
        metadata,
        bucket: params.bucket,
        prefix: params.prefix,
        limit: params.limit,
        offset: params.offset,
        next,
    }))
}

/// The rows of those names; one that was deleted since it was found is left out.
async fn rows(
    env: &JsonEnv,
    scope: &Scope,
    names: Vec<(String, String)>,
) -> Result<Vec<Row>, FlowError> {
    let rows = futures::stream::iter(names).map(|(bucket, key)| async move {
        match lookup(env, scope, &bucket, &key).await {
            Ok((_, found)) => {
                Ok(found.map(|(info, parts)| Row::new(&bucket, &key, &info, nodes(&parts))))
            }
            Err(FlowError::Refused(Refused::NoSuchBucket)) => Ok(None),
            Err(error) => Err(error),
        }
    });
    let rows: Vec<Option<Row>> = rows.buffered(LOOKUPS).try_collect().await?;
    Ok(rows.into_iter().flatten().collect())
}

/// The keys of a page, and the last of them where more follow.
async fn keys(
    env: &JsonEnv,
    scope: &Scope,
    params: &ListParams,
) -> Result<(Vec<String>, Option<String>), FlowError> {
    let wanted = (params.offset + params.limit) as usize;
    let mut start = match params.start_after.as_str() {
        "" => ListStart::First,
        key => ListStart::AfterKey { key: key.to_owned() },
    };
    let mut keys = Vec::new();
    loop {
        let query = Query::ListObjects {
            bucket: params.bucket.clone(),
            prefix: params.prefix.clone(),
            delimiter: String::new(),
            start,
            max: ((wanted - keys.len()) as u32).min(MAX_LIST),
        };
        let QueryReply::Listing { entries, next, .. } = read(&env.objects, scope, query).await?
        else {
            return Err(unexpected("ListObjects"));
        };
        keys.extend(entries.into_iter().filter_map(|entry| match entry {
            ListEntry::Object { key, .. } => Some(key),
            ListEntry::CommonPrefix { .. } => None,
        }));
        match next {
            Some(entry) if keys.len() < wanted => start = ListStart::AfterEntry { entry },
            next => {
                let page = keys.split_off(keys.len().min(params.offset as usize));
                return Ok((page, next));
            }
        }
    }
}

/// Parameters of a search.
#[derive(Debug, Deserialize, IntoParams)]
pub struct SearchParams {
    /// Words; the last one may be the beginning of a word.
    #[param(example = "a jpg")]
    q: String,
    /// Only in this bucket.
    #[serde(default)]
    #[param(example = "photos")]
    bucket: String,
    /// At most so many; more than 1000 are cut to 1000.
    #[serde(default = "fifty")]
    #[param(example = 50)]
    limit: u32,
    /// Skips so many; `offset` and `limit` together are at most 1000.
    #[serde(default)]
    #[param(example = 0)]
    offset: u32,
    /// `next` of the page before.
    #[param(example = 0)]
    after: Option<u64>,
}

fn fifty() -> u32 {
    50
}

impl ParamsInput for SearchParams {
    const EXAMPLE: &'static str = "?q=a%20jpg&bucket=photos&limit=50";

    fn check(&self) -> Result<(), ApiError> {
        if self.q.is_empty() || self.q.len() > 1024 {
            return Err(ApiError::invalid("q", "it has 1 to 1024 bytes", Self::EXAMPLE));
        }
        check_limit("limit", self.limit)?;
        check_range("offset", self.offset, 0, MAX_LIST - self.limit.min(MAX_LIST))
    }
}

/// `GET /api/v1/metadata/search`.
pub async fn search(
    State(env): State<JsonEnv>,
    scope: RequestScope,
    Params(mut params): Params<SearchParams>,
) -> Result<Json<Found>, ApiError> {
    let scope = scope.with(CALL_LIMIT);
    params.limit = params.limit.min(MAX_LIST);
    let wanted = params.offset + params.limit;
    let (mut hits, mut next) = (Vec::new(), params.after);
    loop {
        let query = Query::Search {
            bucket: Some(params.bucket.clone()).filter(|b| !b.is_empty()),
            text: params.q.clone(),
            after: next,
            max: wanted - hits.len() as u32,
        };
        let QueryReply::Found { hits: page, next: more } =
            read(&env.objects, &scope, query).await?
        else {
            return Err(unexpected("Search").into());
        };
        hits.extend(page.into_iter().map(|hit| (hit.bucket, hit.key)));
        next = more;
        if next.is_none() || hits.len() as u32 >= wanted {
            break;
        }
    }
    let hits = hits.split_off(hits.len().min(params.offset as usize));
    let metadata = rows(&env, &scope, hits).await?;
    Ok(Json(Found {
        query: params.q,
        objects: metadata.clone(),
        count: metadata.len(),
        total: metadata.len(),
        metadata,
        limit: params.limit,
        offset: params.offset,
        next,
    }))
}

/// Parameters of a count.
#[derive(Debug, Deserialize, IntoParams)]
pub struct CountParams {
    /// The bucket.
    #[param(example = "photos")]
    bucket: String,
    /// Only keys that begin so.
    #[serde(default)]
    #[param(example = "2026/")]
    prefix: String,
}

impl ParamsInput for CountParams {
    const EXAMPLE: &'static str = "?bucket=photos&prefix=2026/";
}

/// `GET /api/v1/metadata/count`.
pub async fn count(
    State(env): State<JsonEnv>,
    scope: RequestScope,
    Params(CountParams { bucket, prefix }): Params<CountParams>,
) -> Result<Json<Count>, ApiError> {
    let query = Query::Count { bucket: bucket.clone(), prefix: prefix.clone() };
    match read(&env.objects, &scope.with(CALL_LIMIT), query).await? {
        QueryReply::Count { objects } => Ok(Json(Count { bucket, prefix, count: objects })),
        _ => Err(unexpected("Count").into()),
    }
}

/// `GET /api/v1/stats`.
pub async fn stats(
    State(env): State<JsonEnv>,
    scope: RequestScope,
) -> Result<Json<Figures>, ApiError> {
    let scope = scope.with(CALL_LIMIT);
    let buckets =
        Query::ListBuckets { owner: None, prefix: String::new(), after: None, max: MAX_LIST };
    let (stats, members, buckets) = futures::try_join!(
        read(&env.objects, &scope, Query::Stats { bucket: None }),
        read(&env.objects, &scope, Query::Members),
        read(&env.objects, &scope, buckets),
    )?;
    let (
        QueryReply::Stats { stats },
        QueryReply::Members { members },
        QueryReply::Buckets { buckets, .. },
    ) = (stats, members, buckets)
    else {
        return Err(unexpected("Stats").into());
    };
    let group = |count, size| Group { count, size };
    let per_bucket = buckets.into_iter().map(|b| (b.bucket.name, group(b.objects, b.bytes)));
    Ok(Json(figures(stats, members, per_bucket.collect())))
}

fn figures(
    stats: Stats,
    storage_nodes: Vec<String>,
    bucket_stats: std::collections::BTreeMap<String, Group>,
) -> Figures {
    let kinds = stats.content_types.into_iter();
    let status = [
        ("active", stats.objects),
        ("deleted", stats.delete_markers),
        ("superseded", stats.old_versions),
    ];
    Figures {
        total_objects: stats.objects,
        total_size: stats.bytes,
        total_size_bytes: stats.bytes,
        average_size: stats.bytes as f64 / stats.objects.max(1) as f64,
        total_buckets: stats.buckets,
        bucket_stats,
        content_types: kinds
            .map(|k| (k.content_type, Group { count: k.objects, size: k.bytes }))
            .collect(),
        storage_nodes,
        status_counts: status.into_iter().map(|(name, n)| (name.to_owned(), n)).collect(),
        daily_uploads: stats.daily_uploads.into_iter().map(day).collect(),
        outbox: stats.outbox,
        last_updated: rfc3339(now_ms()),
    }
}

fn day(uploads: DailyUploads) -> Day {
    let date = rfc3339(u64::from(uploads.day) * 24 * 3600 * 1000);
    let date = date.split('T').next().unwrap_or_default().to_owned();
    Day { date, count: uploads.objects, size: uploads.bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_keep_the_sums_and_name_the_days() {
        let stats = Stats {
            objects: 4,
            bytes: 10,
            daily_uploads: vec![DailyUploads { day: 20_484, objects: 4, bytes: 10 }],
            ..Stats::default()
        };
        let figures = figures(stats, vec!["a".into()], Default::default());
        assert_eq!((figures.total_size, figures.total_size_bytes), (10, 10));
        assert_eq!((figures.average_size, figures.status_counts["active"]), (2.5, 4));
        assert_eq!(figures.daily_uploads[0].date, "2026-01-31");
        let empty = super::figures(Stats::default(), Vec::new(), Default::default());
        assert_eq!(empty.average_size, 0.0);
    }
}
