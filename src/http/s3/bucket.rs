//! Buckets at the S3 edge: create, delete, head, list, location, versioning, ACL as it is.
//!
//! Called by `api`; translates to the flows in `objects::bucket` and back.

use s3s::dto::*;
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};

use crate::actors::metadata::command::BucketChange;
use crate::actors::metadata::model::Versioning;
use crate::objects::bucket;

use super::Cx;
use super::convert::timestamp;
use super::error::{self, invalid_argument, not_implemented};

/// Beginnings and ends of names that S3 keeps for itself.
const RESERVED_PREFIXES: [&str; 3] = ["xn--", "sthree-", "amzn-s3-demo-"];
const RESERVED_SUFFIXES: [&str; 5] = ["-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"];

/// Whether a new bucket may have this name; its alphabet and length were checked by `s3s`.
fn is_free_name(name: &str) -> bool {
    !RESERVED_PREFIXES.iter().any(|p| name.starts_with(p))
        && !RESERVED_SUFFIXES.iter().any(|s| name.ends_with(s))
}

/// CreateBucket.
pub async fn create(
    cx: Cx,
    req: S3Request<CreateBucketInput>,
) -> S3Result<S3Response<CreateBucketOutput>> {
    let input = req.input;
    if !is_free_name(&input.bucket) {
        let text = "The specified bucket is not valid.";
        return Err(S3Error::with_message(S3ErrorCode::InvalidBucketName, text));
    }
    if let Some(configuration) = &input.create_bucket_configuration
        && (configuration.bucket.is_some() || configuration.location.is_some())
    {
        return Err(not_implemented("a directory bucket"));
    }
    bucket::create(&cx.env, &cx.scope, &input.bucket, &cx.caller).await.map_err(error::of)?;
    let location = Some(format!("/{}", input.bucket));
    Ok(S3Response::new(CreateBucketOutput { location }))
}

/// DeleteBucket.
pub async fn delete(
    cx: Cx,
    req: S3Request<DeleteBucketInput>,
) -> S3Result<S3Response<DeleteBucketOutput>> {
    let name = req.input.bucket;
    bucket::delete(&cx.env, &cx.scope, &name, &cx.caller).await.map_err(error::of)?;
    Ok(S3Response::with_status(DeleteBucketOutput::default(), http::StatusCode::NO_CONTENT))
}

/// HeadBucket.
pub async fn head(
    cx: Cx,
    req: S3Request<HeadBucketInput>,
) -> S3Result<S3Response<HeadBucketOutput>> {
    own(&cx, &req.input.bucket).await?;
    let bucket_region = Some(cx.region.to_string());
    Ok(S3Response::new(HeadBucketOutput { bucket_region, ..HeadBucketOutput::default() }))
}

/// ListBuckets.
pub async fn list(
    cx: Cx,
    req: S3Request<ListBucketsInput>,
) -> S3Result<S3Response<ListBucketsOutput>> {
    let input = req.input;
    let max = match input.max_buckets {
        None => 10_000,
        Some(max @ 1..=10_000) => max as u32,
        Some(_) => return Err(invalid_argument("max-buckets must be between 1 and 10000")),
    };
    let prefix = input.prefix.clone().unwrap_or_default();
    let after = input.continuation_token;
    let page = bucket::list(&cx.env, &cx.scope, &cx.caller, &prefix, after, max).await;
    let (buckets, next) = page.map_err(error::of)?;
    let buckets = buckets.into_iter().map(|usage| Bucket {
        name: Some(usage.bucket.name),
        creation_date: Some(timestamp(usage.bucket.created_ms)),
        bucket_region: Some(cx.region.to_string()),
    });
    Ok(S3Response::new(ListBucketsOutput {
        buckets: Some(buckets.collect()),
        continuation_token: next,
        owner: Some(owner(&cx.caller)),
        prefix: input.prefix,
    }))
}

/// A user as S3 names owners.
pub fn owner(name: &str) -> Owner {
    Owner { display_name: Some(name.to_owned()), id: Some(name.to_owned()) }
}

/// GetBucketLocation: `us-east-1` is told by silence.
pub async fn location(
    cx: Cx,
    req: S3Request<GetBucketLocationInput>,
) -> S3Result<S3Response<GetBucketLocationOutput>> {
    own(&cx, &req.input.bucket).await?;
    let other = (&*cx.region != "us-east-1").then(|| cx.region.to_string());
    let location_constraint = other.map(BucketLocationConstraint::from);
    Ok(S3Response::new(GetBucketLocationOutput { location_constraint }))
}

/// GetBucketVersioning.
pub async fn get_versioning(
    cx: Cx,
    req: S3Request<GetBucketVersioningInput>,
) -> S3Result<S3Response<GetBucketVersioningOutput>> {
    let status = match own(&cx, &req.input.bucket).await?.info.versioning {
        Versioning::Off => None,
        Versioning::Enabled => Some(BucketVersioningStatus::ENABLED),
        Versioning::Suspended => Some(BucketVersioningStatus::SUSPENDED),
    };
    let status = status.map(BucketVersioningStatus::from_static);
    Ok(S3Response::new(GetBucketVersioningOutput { status, mfa_delete: None }))
}

/// PutBucketVersioning.
pub async fn put_versioning(
    cx: Cx,
    req: S3Request<PutBucketVersioningInput>,
) -> S3Result<S3Response<PutBucketVersioningOutput>> {
    let VersioningConfiguration { mfa_delete, status } = req.input.versioning_configuration;
    if mfa_delete.is_some_and(|mfa| mfa.as_str() != MFADelete::DISABLED) {
        return Err(not_implemented("MFA delete"));
    }
    let state = match status.as_ref().map(BucketVersioningStatus::as_str) {
        Some(BucketVersioningStatus::ENABLED) => Versioning::Enabled,
        Some(BucketVersioningStatus::SUSPENDED) => Versioning::Suspended,
        _ => {
            let text = "The Versioning element must be specified";
            return Err(S3Error::with_message(
                S3ErrorCode::IllegalVersioningConfigurationException,
                text,
            ));
        }
    };
    configure(&cx, &req.input.bucket, BucketChange::Versioning { state }).await?;
    Ok(S3Response::new(PutBucketVersioningOutput::default()))
}

/// GetBucketAcl: owners have full control, and nobody else any.
pub async fn get_acl(
    cx: Cx,
    req: S3Request<GetBucketAclInput>,
) -> S3Result<S3Response<GetBucketAclOutput>> {
    let bucket = own(&cx, &req.input.bucket).await?;
    let (owner, grants) = (Some(owner(&bucket.info.owner)), Some(grants(&bucket.info.owner)));
    Ok(S3Response::new(GetBucketAclOutput { grants, owner }))
}

/// The only grant that there is.
pub fn grants(name: &str) -> Grants {
    let grantee = Grantee {
        display_name: Some(name.to_owned()),
        email_address: None,
        id: Some(name.to_owned()),
        type_: Type::from_static(Type::CANONICAL_USER),
        uri: None,
    };
    let permission = Some(Permission::from_static(Permission::FULL_CONTROL));
    vec![Grant { grantee: Some(grantee), permission }]
}

/// A bucket of the caller.
pub async fn own(cx: &Cx, name: &str) -> S3Result<bucket::Bucket> {
    bucket::get(&cx.env, &cx.scope, name, &cx.caller).await.map_err(error::of)
}

/// Changes one setting of a bucket of the caller.
pub async fn configure(cx: &Cx, name: &str, change: BucketChange) -> S3Result<()> {
    bucket::configure(&cx.env, &cx.scope, name, &cx.caller, change).await.map_err(error::of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_s3_keeps_for_itself_are_not_free() {
        for name in ["my-bucket", "api", "a.b.c", "sthree", "s3alias"] {
            assert!(is_free_name(name), "{name}");
        }
        for name in ["sthree-x", "xn--bucket", "b-s3alias", "b--ol-s3", "b.mrap", "b--x-s3"] {
            assert!(!is_free_name(name), "{name}");
        }
    }
}
