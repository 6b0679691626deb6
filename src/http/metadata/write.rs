//! Rows changed, made and deleted over JSON (MDAPI-1, MDAPI-2). What is to be done is decided by
//! [`plan`], a pure function; the rest does it.

use axum::Json;
use axum::extract::State;
use http::StatusCode;

use super::model::{EMPTY_MD5, RowInput};
use crate::actors::metadata::command::{Command, NewObject, Precondition};
use crate::actors::metadata::model::{ObjectHead, Refused, Tag};
use crate::actors::metadata::query::{BucketInfo, ObjectInfo};
use crate::cluster::Scope;
use crate::http::error::ApiError;
use crate::http::json::head;
use crate::http::json::object::{self, lookup};
use crate::http::json::{self, Body, CALL_LIMIT, Done, JsonEnv, ObjectPath, RequestScope};
use crate::objects::copy::{self, CopyRequest};
use crate::objects::error::FlowError;
use crate::objects::get::GetRequest;
use crate::objects::metadata::{apply, check_owner};
use crate::types::now_ms;

/// `POST /api/v1/metadata`.
pub async fn create(
    State(env): State<JsonEnv>,
    scope: RequestScope,
    Body(row): Body<RowInput>,
) -> Result<(StatusCode, Json<Done>), ApiError> {
    row.check_names()?;
    let done = save(&env, &scope.with(CALL_LIMIT), row).await?;
    Ok((StatusCode::CREATED, Json(done)))
}

/// `PUT /api/v1/metadata/{bucket}/{key}`: the path wins over the body.
pub async fn update(
    State(env): State<JsonEnv>,
    scope: RequestScope,
    path: ObjectPath,
    Body(row): Body<RowInput>,
) -> Result<Json<Done>, ApiError> {
    let row = RowInput { bucket: path.bucket, key: path.key, ..row };
    Ok(Json(save(&env, &scope.with(CALL_LIMIT), row).await?))
}

/// `DELETE /api/v1/metadata/{bucket}/{key}`.
pub async fn delete(
    State(env): State<JsonEnv>,
    scope: RequestScope,
    path: ObjectPath,
) -> Result<StatusCode, ApiError> {
    object::delete(&env, &scope.with(CALL_LIMIT), path).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What is to be done with a posted row.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    /// Nothing differs.
    Keep,
    /// The object is there: only these change.
    Change {
        /// All headers as they will be, where they change.
        head: Option<ObjectHead>,
        /// All tags as they will be, where they change.
        tags: Option<Vec<Tag>>,
    },
    /// A row without bytes here.
    Make {
        /// Its size.
        size: u64,
        /// Its ETag.
        etag: String,
        /// Its headers.
        head: ObjectHead,
        /// Its tags.
        tags: Vec<Tag>,
    },
}

/// Decides what a posted row means (MDAPI-1).
///
/// # Errors
/// It is at odds with the object, or would be a row that nothing can serve.
pub fn plan(
    row: &RowInput,
    bucket: &BucketInfo,
    object: Option<&ObjectInfo>,
) -> Result<Plan, ApiError> {
    let tags = row.tags.as_ref().map(head::tags_from_map).transpose()?;
    match object {
        Some(object) => change(row, object, tags),
        None => make(row, bucket, tags.unwrap_or_default()),
    }
}

fn change(row: &RowInput, object: &ObjectInfo, tags: Option<Vec<Tag>>) -> Result<Plan, ApiError> {
    let etag = object.etag.as_str();
    let given = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
    let differs = |text: &Option<String>| {
        given(text).is_some_and(|t| !t.trim_matches('"').eq_ignore_ascii_case(etag))
    };
    let at_odds = [
        ("size", row.size.is_some_and(|size| size != object.size), object.size.to_string()),
        ("md5_hash", differs(&row.md5_hash), etag.to_owned()),
        ("etag", differs(&row.etag), etag.to_owned()),
    ];
    if let Some((field, _, is)) = at_odds.into_iter().find(|(_, odd, _)| *odd) {
        return Err(ApiError {
            field: Some(field.into()),
            reason: Some(format!("the object has {is}; bytes change by uploads only")),
            example: Some(is),
            ..ApiError::conflict("the row is at odds with the object")
        });
    }
    let mut new_head = match &row.headers {
        Some(map) => head::from_map(map, object.head.content_type.as_deref())?,
        None => object.head.clone(),
    };
    if given(&row.content_type).is_some() {
        let only = head::from_map(&Default::default(), row.content_type.as_deref())?;
        new_head.content_type = only.content_type;
    }
    let head = Some(new_head).filter(|new| *new != object.head);
    let tags = tags.filter(|new| *new != object.tags);
    Ok(if head.is_none() && tags.is_none() { Plan::Keep } else { Plan::Change { head, tags } })
}

fn make(row: &RowInput, bucket: &BucketInfo, tags: Vec<Tag>) -> Result<Plan, ApiError> {
    let size = row.size.unwrap_or(0);
    let md5 = row.md5_hash.as_deref().filter(|m| !m.is_empty()).map(str::to_ascii_lowercase);
    let etag = match (size, md5) {
        (0, None) => EMPTY_MD5.to_owned(),
        (0, Some(md5)) if md5 == EMPTY_MD5 => md5,
        (0, Some(_)) => {
            let reason = "an object without bytes has another MD5";
            return Err(ApiError::invalid("md5_hash", reason, EMPTY_MD5));
        }
        (_, Some(md5)) if bucket.fallback => md5,
        (_, None) if bucket.fallback => {
            let reason = "what a third party serves is checked against it";
            return Err(ApiError::invalid("md5_hash", reason, EMPTY_MD5));
        }
        _ => {
            let reason = "there is no such object, and rows with bytes are made by uploads: \
                          only an empty object, or one that third parties serve (in a bucket \
                          with fallback), can be made here";
            return Err(ApiError::invalid("size", reason, "0"));
        }
    };
    let headers = row.headers.clone().unwrap_or_default();
    let head = head::from_map(&headers, row.content_type.as_deref())?;
    Ok(Plan::Make { size, etag, head, tags })
}

async fn save(env: &JsonEnv, scope: &Scope, row: RowInput) -> Result<Done, ApiError> {
    let found = lookup(env, scope, &row.bucket, &row.key).await;
    let (bucket, object) = match found {
        Err(FlowError::Refused(Refused::NoSuchBucket)) => {
            json::bucket::ensure(env, scope, &row.bucket).await?;
            lookup(env, scope, &row.bucket, &row.key).await?
        }
        found => found?,
    };
    check_owner(&bucket, &env.owner)?;
    let object = object.map(|(info, _)| info);
    match plan(&row, &bucket, object.as_ref())? {
        Plan::Keep => {}
        Plan::Change { head, tags } => {
            let etag = object.map(|o| o.etag).unwrap_or_default();
            rewrite(env, scope, &row, head, tags, etag).await?;
        }
        Plan::Make { size, etag, head, tags } => {
            let command = make_row(env, &row, size, etag, head, tags);
            apply(&env.objects, scope, command).await.map_err(FlowError::from)?;
        }
    }
    Ok(Done::new("metadata saved"))
}

/// A copy of the object onto itself, unless its bytes changed meanwhile.
async fn rewrite(
    env: &JsonEnv,
    scope: &Scope,
    row: &RowInput,
    head: Option<ObjectHead>,
    tags: Option<Vec<Tag>>,
    etag: String,
) -> Result<(), FlowError> {
    let source = GetRequest {
        bucket: row.bucket.clone(),
        key: row.key.clone(),
        caller: env.owner.to_string(),
        ..GetRequest::default()
    };
    let request = CopyRequest {
        source,
        bucket: row.bucket.clone(),
        key: row.key.clone(),
        caller: env.owner.to_string(),
        head,
        tags,
        storage_class: None,
        algorithm: None,
        precondition: Precondition::IfMatch { etag },
    };
    copy::copy(&env.objects, scope, request).await.map(drop)
}

fn make_row(
    env: &JsonEnv,
    row: &RowInput,
    size: u64,
    etag: String,
    head: ObjectHead,
    tags: Vec<Tag>,
) -> Command {
    let object = NewObject {
        version_id: uuid::Uuid::now_v7().simple().to_string(),
        owner: env.owner.to_string(),
        storage_class: "STANDARD".into(),
        head,
        tags,
        checksum: None,
    };
    Command::Commit {
        bucket: row.bucket.clone(),
        key: row.key.clone(),
        data: None,
        size,
        etag,
        object,
        precondition: Precondition::IfNoneMatchAny,
        now_ms: now_ms(),
        grace_ms: env.objects.settings.grace_ms(),
    }
}

#[cfg(test)]
mod tests;
