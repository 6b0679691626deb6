//! POST object: a browser's form, read up to its file, checked, and handed on to `s3s` tidied up.
//!
//! `s3s` checks the policy and takes the file. What it leaves out is done here: the signature comes
//! before everything else that could be wrong, `${filename}` is filled in, fields that would change
//! the object's meaning are refused, and the answer carries what S3's carries.
//! Source: the S3 pages on POST object and on browser-based uploads.
//!
//! - `FORM-1` nothing is waited for on behalf of a form whose signature is wrong;
//! - `FORM-2` a form holds at most [`MAX_FORM_HEAD`](head::MAX_FORM_HEAD) bytes of memory before its
//!   file, and [`MAX_FORM_FILE`] for it, for [`FORMS_AT_ONCE`] forms at once.

pub mod head;

use std::io;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use hmac::{Hmac, KeyInit, Mac};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyDataStream, StreamBody};
use s3s::{S3Error, S3ErrorCode, S3Result};
use sha2::Sha256;

use super::access::Users;
use super::convert::url_encode;
use super::error::{invalid_argument, not_implemented};
use super::{Edge, failed, unsupported};
use head::{Form, HeadReader};

/// The largest file in a form, in bytes: `s3s` holds it in memory.
pub const MAX_FORM_FILE: u64 = 16 << 20;
/// How many forms are stored at once.
pub const FORMS_AT_ONCE: usize = 2;
/// How long one form may take in all.
const FORM_LIMIT: Duration = Duration::from_secs(60);
/// The pieces in which `s3s` gets the file: it refuses larger ones behind a possible boundary.
const PIECE_BYTES: usize = 32 << 10;

/// Fields that carry the form's own signature.
const OF_THE_SIGNATURE: [&str; 4] =
    ["x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature"];

/// Whether a request is a form.
pub fn is_form(parts: &Parts) -> bool {
    let form = b"multipart/form-data";
    let kind = parts.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    parts.method == Method::POST
        && kind.is_some_and(|k| k.len() >= form.len() && k[..form.len()].eq_ignore_ascii_case(form))
}

/// Whether a request is a form for a bucket that stands in the path.
pub fn is_form_for_bucket(parts: &Parts) -> bool {
    let path = parts.uri.path();
    is_form(parts) && !path.trim_start_matches('/').trim_end_matches('/').contains('/')
}

impl Edge {
    /// Serves a form.
    pub(super) async fn form<B>(&self, parts: Parts, body: B) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let served = tokio::time::timeout(FORM_LIMIT, self.serve_form(parts, body)).await;
        let served = served.unwrap_or_else(|_| Err(S3ErrorCode::RequestTimeout.into()));
        served.unwrap_or_else(failed)
    }

    async fn serve_form<B>(&self, parts: Parts, body: B) -> S3Result<Response<Body>>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let content_type = parts.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
        let boundary = content_type.and_then(head::boundary).ok_or_else(malformed)?;
        let mut body = Box::pin(BodyDataStream::new(body).map_err(io::Error::other));
        let mut reader = HeadReader::new(&boundary);
        let (mut form, first) = loop {
            let bytes = body.next().await.ok_or_else(malformed)?;
            let bytes = bytes.map_err(|_| S3ErrorCode::IncompleteBody)?;
            if let Some(found) = reader.push(&bytes)? {
                break found;
            }
        };
        check_signature(&form, &self.users)?; // FORM-1
        form.fill_in();
        check_fields(&form)?;
        let asked = Asked::of(&form, &parts, self.bucket_of_host(&parts));
        let body = pieces(form.encode(&boundary), first, body);
        let body = s3s::Body::http_body_unsync(StreamBody::new(body.map_ok(Frame::data)));
        let _turn = self.forms_at_once.acquire().await; // FORM-2
        let response = self.serve(&self.form_service, Request::from_parts(parts, body)).await;
        Ok(asked.answer(policy_answer(response).await))
    }
}

/// The form, in pieces of a size that `s3s` takes.
fn pieces(
    head: Bytes,
    first: Bytes,
    rest: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let all = futures::stream::iter([Ok(head), Ok(first)]).chain(rest);
    all.flat_map(|bytes| {
        let mut left = Some(bytes);
        futures::stream::iter(std::iter::from_fn(move || match left.take()? {
            Ok(mut bytes) if bytes.len() > PIECE_BYTES => {
                let piece = bytes.split_to(PIECE_BYTES);
                left = Some(Ok(bytes));
                Some(Ok(piece))
            }
            whole => Some(whole),
        }))
    })
}

fn malformed() -> S3Error {
    let text = "The body of your POST request is not well-formed multipart/form-data.";
    S3Error::with_message(S3ErrorCode::MalformedPOSTRequest, text)
}

/// Checks the signature of version 4; one of version 2, and the policy, are left to `s3s`.
fn check_signature(form: &Form, users: &Users) -> S3Result<()> {
    let Some(given) = form.field("x-amz-signature") else { return Ok(()) };
    let credential = form.field("x-amz-credential").unwrap_or_default();
    let mut scope = credential.rsplitn(5, '/'); // a key may contain a slash
    let (_, Some(service), Some(region), Some(date), Some(key)) =
        (scope.next(), scope.next(), scope.next(), scope.next(), scope.next())
    else {
        return Err(invalid_argument("the field x-amz-credential is malformed"));
    };
    let secret = users.secret(key)?;
    let policy = form.field("policy").unwrap_or_default();
    let mut signed = format!("AWS4{}", secret.expose()).into_bytes();
    for text in [date, region, service, "aws4_request", policy] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&signed).expect("HMAC takes any key length");
        mac.update(text.as_bytes());
        signed = mac.finalize().into_bytes().to_vec();
    }
    let right = hex::encode(signed);
    let differ = right.bytes().zip(given.bytes()).fold(0, |d, (a, b)| d | (a ^ b));
    if right.len() == given.len() && differ == 0 {
        return Ok(());
    }
    Err(S3ErrorCode::SignatureDoesNotMatch.into())
}

/// Refuses fields that we do not do, and those that stand there twice.
fn check_fields(form: &Form) -> S3Result<()> {
    let mut headers = HeaderMap::new();
    for (i, (name, value)) in form.fields.iter().enumerate() {
        if form.fields[..i].iter().any(|(other, _)| other == name) {
            return Err(invalid_argument(format!("POST requires at most one field {name}")));
        }
        if name.starts_with("x-amz-") && !OF_THE_SIGNATURE.contains(&name.as_str()) {
            let invalid = || invalid_argument(format!("the field {name} is invalid"));
            let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid())?;
            let value = HeaderValue::from_str(value).map_err(|_| invalid())?;
            headers.insert(header, value);
        }
    }
    if form.field("key").is_none() {
        let text = "Bucket POST must contain a field named 'key'.  If it is specified, please \
                    check the order of the fields.";
        return Err(invalid_argument(text));
    }
    if let Some(acl) = form.field("acl") {
        headers.insert("x-amz-acl", HeaderValue::from_str(acl).map_err(|_| malformed())?);
    }
    if form.field("tagging").is_some() {
        return Err(not_implemented("the field tagging of a form"));
    }
    if form.redirect().is_some_and(|url| !is_web_address(url)) {
        return Err(invalid_argument("success_action_redirect is no web address"));
    }
    unsupported::check("PostObject", &headers, None)
}

fn is_web_address(text: &str) -> bool {
    let uri = text.parse::<http::Uri>().ok().filter(|uri| uri.authority().is_some());
    uri.is_some_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")))
}

/// What the answer to a form depends on.
struct Asked {
    bucket: String,
    key: String,
    location: String,
    status: Option<String>,
}

impl Asked {
    fn of(form: &Form, parts: &Parts, bucket_of_host: Option<String>) -> Self {
        let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let host = host.unwrap_or_default();
        let key = form.field("key").unwrap_or_default().to_owned();
        let (bucket, folder) = match bucket_of_host {
            Some(bucket) => (bucket, String::new()),
            None => {
                let bucket = parts.uri.path().trim_matches('/');
                (bucket.to_owned(), format!("{bucket}/"))
            }
        };
        let location = format!("http://{host}/{folder}{}", url_encode(&key));
        let status = form.field("success_action_status").map(str::to_owned);
        Asked { bucket, key, location, status }
    }

    /// Completes the answer of `s3s` to a form that was stored.
    fn answer(self, mut response: Response<Body>) -> Response<Body> {
        let etag = response.headers().get(header::ETAG).and_then(|etag| etag.to_str().ok());
        let Some(etag) = etag.map(str::to_owned) else { return response };
        let location = match response.headers().get(header::LOCATION) {
            None => self.location.clone(),
            Some(redirect) => {
                // S3 names the ETag with its quotes
                let (text, bare) = (redirect.to_str().unwrap_or_default(), etag.trim_matches('"'));
                let stem = text.strip_suffix(bare);
                stem.map_or_else(|| text.to_owned(), |stem| format!("{stem}%22{bare}%22"))
            }
        };
        if let Ok(location) = HeaderValue::from_str(&location) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        if response.status() == StatusCode::CREATED && self.status.as_deref() == Some("201") {
            response.headers_mut().remove(header::CONTENT_LENGTH);
            *response.body_mut() = Body::from(self.document(&etag));
        }
        response
    }

    fn document(&self, etag: &str) -> String {
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<PostResponse><Location>{}</Location>\
             <Bucket>{}</Bucket><Key>{}</Key><ETag>{}</ETag></PostResponse>",
            escape(&self.location),
            escape(&self.bucket),
            escape(&self.key),
            escape(etag)
        )
    }
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\r' => out.push_str("&#13;"),
            other => out.push(other),
        }
    }
    out
}

/// A form that breaks its policy is denied, as in S3; `s3s` calls the policy invalid.
async fn policy_answer(response: Response<Body>) -> Response<Body> {
    if response.status() != StatusCode::BAD_REQUEST {
        return response;
    }
    let (parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, 64 << 10).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    if text.contains("<Code>InvalidPolicyDocument</Code>") && text.contains("Policy condition") {
        let text = "Invalid according to Policy: Policy Condition failed";
        return failed(S3Error::with_message(S3ErrorCode::AccessDenied, text));
    }
    Response::from_parts(parts, Body::from(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn form(fields: &[(&str, &str)]) -> Form {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Form { fields: fields.iter().map(own).collect(), ..Form::default() }
    }

    fn code(result: S3Result<()>) -> String {
        result.map_or_else(|e| e.code().as_str().to_owned(), |()| "ok".to_owned())
    }

    #[test]
    fn a_form_that_was_signed_otherwise_is_refused() {
        // The example of the S3 page "Example: Browser-Based Upload using HTTP POST".
        let policy = include_str!("form/example_policy.txt").trim();
        let right = "8afdbf4008c03f22c2cd3cdb72e4afbb1f6a588f3255ac628749a66d7f09699e";
        let user = config::User {
            name: "a".into(),
            access_key: "AKIAIOSFODNN7EXAMPLE".into(),
            secret_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
        };
        let settings = config::S3 { users: vec![user], ..config::S3::default() };
        let users = Users::new(&settings);
        let check = |key: &str, policy: &str, signature: &str| {
            let credential = format!("{key}/20151229/us-east-1/s3/aws4_request");
            let fields = [
                ("x-amz-credential", credential.as_str()),
                ("policy", policy),
                ("x-amz-signature", signature),
            ];
            code(check_signature(&form(&fields), &users))
        };
        assert_eq!(check("AKIAIOSFODNN7EXAMPLE", policy, right), "ok");
        let mismatch = "SignatureDoesNotMatch";
        assert_eq!(check("AKIAIOSFODNN7EXAMPLE", &policy[1..], right), mismatch);
        assert_eq!(check("AKIAIOSFODNN7EXAMPLE", policy, &right[1..]), mismatch);
        assert_eq!(check("AKIAIOSFODNN7EXAMPLE", policy, ""), mismatch);
        assert_eq!(check("somebody", policy, right), "InvalidAccessKeyId");
        let bare = form(&[("x-amz-signature", right), ("x-amz-credential", "x")]);
        assert_eq!(code(check_signature(&bare, &users)), "InvalidArgument");
        assert_eq!(code(check_signature(&form(&[("key", "k")]), &users)), "ok", "anonymous");
    }

    #[test]
    fn fields_that_change_the_object_are_done_or_refused() {
        let rows: [(&[(&str, &str)], &str); 10] = [
            (&[("key", "k"), ("content-type", "image/png"), ("x-amz-meta-a", "b")], "ok"),
            (&[("key", "k"), ("acl", "private")], "ok"),
            (&[("key", "k"), ("acl", "public-read")], "NotImplemented"),
            (&[("key", "k"), ("tagging", "<Tagging/>")], "NotImplemented"),
            (&[("key", "k"), ("x-amz-server-side-encryption", "AES256")], "NotImplemented"),
            (&[("key", "k"), ("x-amz-checksum-md5", "AAAA")], "NotImplemented"),
            (&[("key", "k"), ("key", "l")], "InvalidArgument"),
            (&[("acl", "private")], "InvalidArgument"),
            (&[("key", "k"), ("success_action_redirect", "javascript:x")], "InvalidArgument"),
            (&[("key", "k"), ("redirect", "https://app.example/?a=b")], "ok"),
        ];
        for (fields, expected) in rows {
            assert_eq!(code(check_fields(&form(fields))), expected, "{fields:?}");
        }
    }

    #[tokio::test]
    async fn the_file_is_cut_into_pieces_and_nothing_is_lost() {
        let rest =
            vec![Ok(Bytes::from(vec![7; 2 * PIECE_BYTES + 1])), Ok(Bytes::from_static(b"z"))];
        let rest = futures::stream::iter(rest);
        let all = pieces(Bytes::from_static(b"head"), Bytes::from_static(b"first"), rest);
        let all: Vec<Bytes> = all.try_collect().await.unwrap();
        assert!(all.iter().all(|piece| piece.len() <= PIECE_BYTES), "{:?}", all.len());
        let whole = [b"headfirst".as_slice(), &[7; 2 * PIECE_BYTES + 1], b"z"].concat();
        assert_eq!(all.concat(), whole);
    }
}
