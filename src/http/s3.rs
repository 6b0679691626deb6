//! The S3 edge: `s3s` parses, checks signatures and serialises; we translate to flows.
//!
//! One per node with a storage service. A request comes in through [`Edge::call`], is checked
//! ([`access`], [`unsupported`]), runs in an actor of its own ([`api`]) and is answered with its
//! request id. CORS is done here, around the operations.
//!
//! Before `s3s` go those checks that it leaves out: [`signed`], [`framing`], [`form`], [`documents`].
//!
//! - `S3-1` nothing that we do not do is answered with success;
//! - `S3-2` every answer carries `x-amz-request-id`, the id under which the cluster worked on it;
//! - `S3-3` a request acts as the user whose key signed it, and reaches only this user's buckets.

pub mod access;
pub mod api;
pub mod broken;
pub mod bucket;
pub mod conditions;
pub mod convert;
pub mod cors;
pub mod documents;
pub mod error;
pub mod form;
pub mod framing;
pub mod list;
pub mod multipart;
pub mod object;
pub mod signed;
pub mod tagging;
pub mod unsupported;
pub mod upload;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};
use tokio::sync::Semaphore;

use crate::cluster::{Scope, TraceContext};
use crate::config;
use crate::objects::{Env, bucket as bucket_flow, request};
use crate::types::now_ms;

use access::{Access, Auth, Hosts, OperationLabel, Users};
use broken::{Broken, Watched};

/// How long a request may take in all; its parts have tighter limits of their own.
const REQUEST_LIMIT: Duration = Duration::from_secs(3600);
/// The largest XML document, in bytes: 1,000 keys of 1 KiB, escaped, fit.
const XML_BYTES: usize = 8 << 20;
/// How long a document may take to come.
const DOCUMENT_LIMIT: Duration = Duration::from_secs(30);

/// Whether a request is S3's, and not the service's own JSON API.
///
/// Signed requests and browser forms for a bucket are S3; so is everything but `/health`,
/// `/metrics`, `/openapi.json` and `/api/v1/**`.
pub fn is_s3(parts: &Parts) -> bool {
    let path = parts.uri.path();
    let own = matches!(path, "/health" | "/metrics" | "/openapi.json" | "/api/v1")
        || path.starts_with("/api/v1/");
    !own || is_signed(parts) || form::is_form_for_bucket(parts)
}

fn is_signed(parts: &Parts) -> bool {
    let by_header = parts.headers.get(header::AUTHORIZATION).is_some_and(|value| {
        value.as_bytes().starts_with(b"AWS4-") || value.as_bytes().starts_with(b"AWS ")
    });
    let names = parts.uri.query().unwrap_or_default().split('&');
    let mut names = names.map(|pair| pair.split_once('=').map_or(pair, |(name, _)| name));
    by_header
        || names
            .any(|name| matches!(name, "X-Amz-Signature" | "X-Amz-Credential" | "AWSAccessKeyId"))
}

/// The S3 edge of one node. Cheap to clone.
#[derive(Clone)]
pub struct Edge {
    service: S3Service,
    form_service: S3Service,
    env: Env,
    users: Arc<Users>,
    hosts: Hosts,
    region: Arc<str>,
    forms_at_once: Arc<Semaphore>,
}

/// The S3 name of the operation that a request was, in the extensions of its answer.
#[derive(Clone, Debug)]
pub struct Operation(pub String);

/// Makes the S3 edge.
pub fn service(env: Env, config: &config::S3) -> Edge {
    let (users, hosts) = (Arc::new(Users::new(config)), Hosts::new(config));
    let region: Arc<str> = config.region.as_str().into();
    let mut limits = S3Config::default();
    limits.xml_max_body_size = XML_BYTES;
    limits.post_object_max_file_size = form::MAX_FORM_FILE;
    limits.form_max_fields_size = 1 << 20;
    limits.form_max_field_size = form::head::MAX_FORM_HEAD;
    limits.form_max_parts = 200;
    let build = |limits: S3Config| {
        let (env, users, region) = (env.clone(), users.clone(), region.clone());
        let mut builder = S3ServiceBuilder::new(Operations { env, users: users.clone(), region });
        builder.set_auth(Auth(users.clone()));
        builder.set_access(Access(users));
        builder.set_host(hosts.clone());
        builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(limits))));
        builder.build()
    };
    let service = build(limits.clone());
    // a form lives until its policy expires, however long ago it was signed
    limits.presigned_url_max_skew_time_secs = u32::MAX;
    let (form_service, forms_at_once) = (build(limits), Semaphore::new(form::FORMS_AT_ONCE));
    let forms_at_once = Arc::new(forms_at_once);
    Edge { service, form_service, env, users, hosts, region, forms_at_once }
}

impl Edge {
    /// Serves one request. Dropping the future ends the request.
    pub async fn call<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let (mut parts, body) = request.into_parts();
        let scope = scope_of(&parts.headers);
        let operation = OperationLabel::default();
        parts.extensions.insert(scope);
        parts.extensions.insert(operation.clone());
        let asked = cors::Asked::of(&parts.method, &parts.headers);
        let bucket = asked.as_ref().and_then(|_| self.bucket_of(&parts));
        let (head, options) = (parts.method == Method::HEAD, parts.method == Method::OPTIONS);
        let mut label = None;
        let mut response = if options {
            label = Some("Preflight");
            let preflight = self.preflight(&scope, asked.as_ref(), bucket.as_deref()).await;
            preflight.unwrap_or_else(failed)
        } else if access::has_foreign_region(&parts) {
            self.wrong_region()
        } else {
            let mut response = self.operate(parts, body).await;
            if let (Some(asked), Some(bucket)) = (&asked, &bucket) {
                let allowed = self.cors_headers(&scope, asked, bucket).await;
                response.headers_mut().extend(allowed.unwrap_or_default());
            }
            response
        };
        if head && response.headers().contains_key(header::CONTENT_RANGE) {
            let status = response.status_mut();
            if *status == StatusCode::OK {
                *status = StatusCode::PARTIAL_CONTENT; // which s3s does for GET only
            }
        }
        stamp(response.headers_mut(), &scope);
        let name = label.unwrap_or_else(|| operation.name());
        response.extensions_mut().insert(Operation(name.to_owned()));
        response
    }

    /// Serves what is no preflight.
    async fn operate<B>(&self, mut parts: Parts, body: B) -> Response<Body>
    where
        B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        if let Err(error) = signed::check(&mut parts, now_ms()) {
            return failed(error);
        }
        let broken = Broken::default();
        let body = Watched::new(body, broken.clone());
        let response = if form::is_form(&parts) {
            self.form(parts, body).await
        } else {
            match body_of(&parts, body).await {
                Ok(body) => self.serve(&self.service, Request::from_parts(parts, body)).await,
                Err(error) => failed(error),
            }
        };
        if broken.is_set() && response.status() == StatusCode::INTERNAL_SERVER_ERROR {
            return failed(S3ErrorCode::IncompleteBody.into()); // BROKEN-1
        }
        response
    }

    fn wrong_region(&self) -> Response<Body> {
        let mut response = Response::new(Body::from(error::wrong_region(&self.region)));
        *response.status_mut() = StatusCode::BAD_REQUEST;
        let xml = HeaderValue::from_static("application/xml");
        response.headers_mut().insert(header::CONTENT_TYPE, xml);
        response
    }

    async fn serve(&self, service: &S3Service, request: Request<s3s::Body>) -> Response<Body> {
        match service.call(request).await {
            Ok(response) => response.map(Body::new),
            Err(error) => {
                tracing::error!(?error, "the S3 service failed");
                failed(S3ErrorCode::InternalError.into())
            }
        }
    }

    /// Answers `OPTIONS`.
    async fn preflight(
        &self,
        scope: &Scope,
        asked: Option<&cors::Asked>,
        bucket: Option<&str>,
    ) -> S3Result<Response<Body>> {
        let (asked, bucket) = asked.zip(bucket).ok_or_else(cors::not_a_preflight)?;
        let found = bucket_flow::find(&self.env, scope, bucket).await.map_err(error::of)?;
        let rules = found.cors.unwrap_or_default();
        let rule = cors::find(&rules, asked).ok_or_else(cors::forbidden)?;
        let mut response = Response::new(Body::empty());
        *response.headers_mut() = cors::answer(rule, asked);
        Ok(response)
    }

    /// The CORS headers of an actual answer, where a rule of the bucket allows the origin.
    async fn cors_headers(
        &self,
        scope: &Scope,
        asked: &cors::Asked,
        bucket: &str,
    ) -> Option<HeaderMap> {
        let rules = bucket_flow::find(&self.env, scope, bucket).await.ok()?.cors?;
        Some(cors::answer(cors::find(&rules, asked)?, asked))
    }

    fn bucket_of(&self, parts: &Parts) -> Option<String> {
        let by_path = || parts.uri.path().split('/').nth(1).filter(|b| !b.is_empty());
        self.bucket_of_host(parts).or_else(|| by_path().map(str::to_owned))
    }

    fn bucket_of_host(&self, parts: &Parts) -> Option<String> {
        let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        host.and_then(|host| self.hosts.bucket(host))
    }
}

/// The body as `s3s` takes it: framing is watched; documents with a digest are read and checked
/// before.
async fn body_of<B>(parts: &Parts, body: B) -> S3Result<s3s::Body>
where
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    if let Some(kind) = framing::kind(&parts.headers) {
        return Ok(s3s::Body::http_body_unsync(framing::Framed::new(body, kind)));
    }
    if !documents::has_digest(parts) {
        return Ok(s3s::Body::http_body_unsync(body));
    }
    let read = documents::read(body, &parts.headers, XML_BYTES);
    let bytes = tokio::time::timeout(DOCUMENT_LIMIT, read).await;
    bytes.map_err(|_| S3ErrorCode::RequestTimeout)?.map(s3s::Body::from)
}

/// The answer to a request that is one too many.
pub fn overload(why: &str) -> Response<Body> {
    failed(error::slow_down(why))
}

/// An error made outside of `s3s`, as an answer.
fn failed(error: S3Error) -> Response<Body> {
    match error.to_http_response() {
        Ok(response) => response.map(Body::new),
        Err(_) => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response
        }
    }
}

/// Marks an answer with its request (S3-2).
fn stamp(headers: &mut HeaderMap, scope: &Scope) {
    let id = format!("{:032X}", scope.request_id);
    if let Ok(value) = HeaderValue::from_str(&id) {
        headers.insert("x-amz-id-2", value.clone());
        headers.insert("x-amz-request-id", value);
    }
    headers.entry(header::SERVER).or_insert(HeaderValue::from_static("MockS3"));
}

/// The identity of a request: a fresh id, in the trace that the client gives (W3C `traceparent`).
fn scope_of(headers: &HeaderMap) -> Scope {
    let scope = Scope::new(REQUEST_LIMIT);
    let given = headers.get("traceparent").and_then(|value| value.to_str().ok());
    let trace = given.and_then(trace_of).unwrap_or(scope.trace);
    Scope { trace, ..scope }
}

fn trace_of(text: &str) -> Option<TraceContext> {
    let mut fields = text.split('-');
    let (version, trace, span, flags) =
        (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    if version.len() != 2 || trace.len() != 32 || span.len() != 16 || flags.len() != 2 {
        return None;
    }
    let trace_id = u128::from_str_radix(trace, 16).ok().filter(|&id| id != 0)?;
    let span_id = u64::from_str_radix(span, 16).ok().filter(|&id| id != 0)?;
    let sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
    Some(TraceContext { trace_id, span_id, sampled })
}

/// What `s3s` calls: the operations, implemented in [`api`].
pub struct Operations {
    env: Env,
    users: Arc<Users>,
    region: Arc<str>,
}

/// What one operation has at hand.
pub struct Cx {
    /// The flows' surroundings.
    pub env: Env,
    /// Budget and identity of the request.
    pub scope: Scope,
    /// The user who asks.
    pub caller: String,
    /// The region that we say to be.
    pub region: Arc<str>,
}

impl Operations {
    /// Who asks, and in which scope.
    fn context<T>(&self, req: &S3Request<T>) -> S3Result<Cx> {
        let key = req.credentials.as_ref().map(|c| c.access_key.as_str());
        let caller = self.users.name(key).ok_or(S3ErrorCode::AccessDenied)?.to_owned();
        for name in ["x-amz-expected-bucket-owner", "x-amz-source-expected-bucket-owner"] {
            if req.headers.get(name).is_some_and(|owner| owner.as_bytes() != caller.as_bytes()) {
                return Err(S3ErrorCode::AccessDenied.into()); // buckets of others are denied anyway
            }
        }
        let scope = req.extensions.get::<Scope>().copied();
        let scope = scope.unwrap_or_else(|| Scope::new(REQUEST_LIMIT));
        Ok(Cx { env: self.env.clone(), scope, caller, region: self.region.clone() })
    }

    /// Runs an operation in an actor of its own.
    async fn run<O: Send + 'static>(
        &self,
        kind: &'static str,
        work: impl Future<Output = S3Result<S3Response<O>>> + Send + 'static,
    ) -> S3Result<S3Response<O>> {
        match request::run(&self.env, kind, work).await {
            Ok(result) => result,
            Err(request::Gone) => Err(error::slow_down("the request was ended")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(method: &str, uri: &str, header: Option<(&str, &str)>) -> Parts {
        let mut builder = Request::builder().method(method).uri(uri);
        if let Some((name, value)) = header {
            builder = builder.header(name, value);
        }
        builder.body(()).unwrap().into_parts().0
    }

    #[test]
    fn signed_requests_and_forms_are_s3_and_only_our_own_paths_are_not() {
        let signed = Some(("authorization", "AWS4-HMAC-SHA256 Credential=a/b"));
        let bearer = Some(("authorization", "Bearer token"));
        let form = Some(("content-type", "multipart/form-data; boundary=x"));
        let rows = [
            ("GET", "/health", None, false),
            ("GET", "/metrics", None, false),
            ("GET", "/openapi.json", None, false),
            ("GET", "/api/v1/objects", None, false),
            ("GET", "/api/v1", None, false),
            ("GET", "/api/v1/objects", bearer, false),
            ("GET", "/api/v1/objects", signed, true),
            ("GET", "/health", signed, true),
            ("GET", "/health/", None, true),
            ("GET", "/healthy", None, true),
            ("GET", "/api", None, true),
            ("GET", "/api/v2/x", None, true),
            ("GET", "/api/v10/x", None, true),
            ("GET", "/", None, true),
            ("GET", "/api/v1/x?X-Amz-Signature=1", None, true),
            ("GET", "/api/v1/x?X-Amz-Credential=1", None, true),
            ("GET", "/api/v1/x?prefix=X-Amz-Signature", None, false),
            ("POST", "/api", form, true),
            ("POST", "/health", form, true),
            ("POST", "/api/v1/objects", form, false),
            ("POST", "/api/v1/objects", None, false),
            ("OPTIONS", "/bucket/key", None, true),
        ];
        for (method, uri, header, expected) in rows {
            assert_eq!(is_s3(&parts(method, uri, header)), expected, "{method} {uri} {header:?}");
        }
    }

    #[test]
    fn a_trace_of_the_client_goes_on_and_a_malformed_one_is_left() {
        let trace = trace_of("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").unwrap();
        assert_eq!(trace.trace_id, 0x0af7651916cd43dd8448eb211c80319c);
        assert_eq!((trace.span_id, trace.sampled), (0xb7ad6b7169203331, true));
        for bad in
            ["", "00", "00-1-2-01", "00-00000000000000000000000000000000-b7ad6b7169203331-01"]
        {
            assert_eq!(trace_of(bad), None, "{bad}");
        }
    }
}
