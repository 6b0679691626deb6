//! Single objects, for the JSON APIs of metadata, storage and queue: looked up, stored, deleted.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use bytes::Bytes;
use serde::{Deserialize, Deserializer};
use tokio::sync::OwnedSemaphorePermit;
use utoipa::ToSchema;

use super::{JsonEnv, ObjectPath};
use crate::actors::metadata::command::{NewObject, Precondition};
use crate::actors::metadata::model::{ObjectHead, Refused, Tag};
use crate::actors::metadata::query::{BucketInfo, Found, ObjectInfo, PartRow, Query, QueryReply};
use crate::cluster::Scope;
use crate::http::error::ApiError;
use crate::objects::body::{CHUNK_BYTES, Expect, Upload};
use crate::objects::delete::{self, Target};
use crate::objects::error::FlowError;
use crate::objects::metadata::{read, unexpected};
use crate::objects::put::{self, PutRequest, Written};

/// The largest JSON body that carries object bytes, in bytes; larger objects go in raw.
pub const UPLOAD_LIMIT: u64 = 16 << 20;
/// How long an upload waits for others to leave the memory that it needs.
const BUDGET_WAIT: Duration = Duration::from_secs(5);

/// Bytes that travel as base64 in a JSON string.
#[derive(Clone, Debug, Default, PartialEq, Eq, ToSchema)]
#[schema(value_type = String)]
pub struct Base64(pub Bytes);

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Base64;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string of base64")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Base64, E> {
                let engine = if text.ends_with('=') { STANDARD } else { STANDARD_NO_PAD };
                let bytes = engine.decode(text);
                bytes.map(|b| Base64(b.into())).map_err(|e| E::custom(format!("no base64: {e}")))
            }
            fn visit_unit<E: serde::de::Error>(self) -> Result<Base64, E> {
                Ok(Base64::default()) // Go writes an empty []byte as null
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// The id of an object in the JSON APIs: a UUID (version 3) of its name, the same for ever.
pub fn id_of(bucket: &str, key: &str) -> String {
    let md5 = md5::compute(format!("{bucket}/{key}"));
    uuid::Builder::from_md5_bytes(md5.0).into_uuid().to_string()
}

/// What a key holds now; third parties are not asked.
///
/// # Errors
/// There is no such bucket, or metadata cannot be reached.
pub async fn lookup(
    env: &JsonEnv,
    scope: &Scope,
    bucket: &str,
    key: &str,
) -> Result<(BucketInfo, Option<(ObjectInfo, Vec<PartRow>)>), FlowError> {
    let query = Query::Lookup { bucket: bucket.to_owned(), key: key.to_owned(), version_id: None };
    match read(&env.objects, scope, query).await? {
        QueryReply::Object { bucket, found: Found::Object { info, parts, .. } } => {
            Ok((bucket, Some((*info, parts))))
        }
        QueryReply::Object { bucket, .. } => Ok((bucket, None)),
        _ => Err(unexpected("Lookup")),
    }
}

/// Deletes an object that is there.
///
/// # Errors
/// It is not there (nothing changes then), or metadata cannot be reached.
pub async fn delete(env: &JsonEnv, scope: &Scope, path: ObjectPath) -> Result<(), FlowError> {
    let targets = vec![Target { key: path.key, version_id: None, if_match: Some("*".into()) }];
    let results = delete::delete(&env.objects, scope, &path.bucket, &env.owner, targets).await?;
    match results.into_iter().next() {
        Some(Ok(_)) => Ok(()),
        Some(Err(Refused::PreconditionFailed)) | None => Err(Refused::NoSuchKey.into()),
        Some(Err(refused)) => Err(refused.into()),
    }
}

/// An object to be stored.
pub struct NewUpload {
    /// Where.
    pub path: ObjectPath,
    /// Headers and user metadata.
    pub head: ObjectHead,
    /// Tags.
    pub tags: Vec<Tag>,
    /// The bytes.
    pub body: Upload,
    /// What was said about them.
    pub expect: Expect,
}

/// Stores an object as `http.json_owner`, with its bucket if that is not there yet.
///
/// # Errors
/// See [`put::put`].
pub async fn store(env: &JsonEnv, scope: &Scope, new: NewUpload) -> Result<Written, FlowError> {
    super::bucket::ensure(env, scope, &new.path.bucket).await?;
    let request = PutRequest {
        bucket: new.path.bucket,
        key: new.path.key,
        caller: env.owner.to_string(),
        object: NewObject {
            storage_class: "STANDARD".into(),
            head: new.head,
            tags: new.tags,
            ..NewObject::default()
        },
        precondition: Precondition::Always,
        upload: new.body,
        expect: new.expect,
    };
    put::put(&env.objects, scope, request).await
}

/// Bytes at hand as the body of an upload.
pub fn body_of(bytes: Bytes) -> (Upload, Expect) {
    let expect = Expect { len: Some(bytes.len() as u64), ..Expect::default() };
    let chunks = futures::stream::unfold(bytes, |mut rest| async move {
        let chunk = rest.split_to(rest.len().min(CHUNK_BYTES));
        (!chunk.is_empty()).then_some((Ok(chunk), rest))
    });
    (Box::pin(chunks), expect)
}

/// Room in memory for a JSON body that carries object bytes (JSON-2).
///
/// # Errors
/// Others take all of it for too long.
pub async fn room(env: &JsonEnv, declared: Option<u64>) -> Result<OwnedSemaphorePermit, ApiError> {
    let kib = declared.unwrap_or(UPLOAD_LIMIT).min(UPLOAD_LIMIT) / 1024 + 1;
    let permit = env.uploads.clone().acquire_many_owned(kib as u32);
    match tokio::time::timeout(BUDGET_WAIT, permit).await {
        Ok(Ok(permit)) => Ok(permit),
        _ => Err(ApiError::overload("too many JSON uploads at once")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt;

    #[test]
    fn base64_is_read_with_and_without_padding_and_nothing_else() {
        let read = |text: &str| serde_json::from_str::<Base64>(text).map(|b| b.0.to_vec());
        for (text, bytes) in [
            ("\"AQI=\"", &[1, 2][..]),
            ("\"AQI\"", &[1, 2]),
            ("\"\"", &[]),
            ("null", &[]),
            ("\"\\/\\/8=\"", &[255, 255]),
        ] {
            assert_eq!(read(text).unwrap(), bytes, "{text}");
        }
        for text in ["\"a\"", "\"not base64!\"", "5", "[1]"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[tokio::test]
    async fn bytes_at_hand_are_given_out_in_chunks() {
        for len in [0, 1, CHUNK_BYTES, CHUNK_BYTES * 2 + 5] {
            let (body, expect) = body_of(vec![7; len].into());
            let chunks: Vec<_> = body.map(|c| c.unwrap()).collect().await;
            assert_eq!(chunks.concat(), vec![7; len]);
            assert!(chunks.iter().all(|c| !c.is_empty() && c.len() <= CHUNK_BYTES));
            assert_eq!(expect.len, Some(len as u64));
        }
    }

    #[test]
    fn an_id_belongs_to_a_name() {
        assert_eq!(id_of("a", "b"), id_of("a", "b"));
        assert_ne!(id_of("a", "b/c"), id_of("a/b", "x"));
        assert!(uuid::Uuid::parse_str(&id_of("a", "b")).is_ok());
    }
}
