//! The requests that are sent to sources: their URLs, and the client that sends them.
//!
//! Used by `fetch.rs`. `rusty-s3` makes and reads the S3 part, without I/O; `reqwest` sends.
//!
//! - `REQUEST-1` a key that a URL cannot carry (one with `.` or `..` between slashes, or an empty
//!   one) is never asked for: the URL would name another object;
//! - `REQUEST-2` redirects are not followed and proxies not used: only the configured server is
//!   asked.

use std::time::Duration;

use http::Method;
use reqwest::{Client, Response, Url};
use rusty_s3::actions::{ListObjectsV2, S3Action};
use rusty_s3::{Bucket, Credentials, UrlStyle};

use super::message::{Listed, ListedObject};
use crate::config::{Source, SourceKind};

/// How long a signature is good.
const SIGNED_FOR: Duration = Duration::from_secs(300);
/// The largest listing that is read, in bytes.
const LIST_LIMIT: usize = 1 << 20;
/// Where a page of keys is cut, in bytes.
const PAGE_BYTES: usize = 128 * 1024;

/// Why no request could be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unaskable {
    /// REQUEST-1.
    #[error("the key cannot be written in a URL")]
    Key,
    /// The description of the source makes no URL.
    #[error("bad endpoint: {0}")]
    Endpoint(String),
    /// The source has no such function.
    #[error("not for sources of this type")]
    Kind,
}

/// The client for one source.
///
/// # Errors
/// When TLS cannot be set up.
pub fn client(source: &Source) -> reqwest::Result<Client> {
    Client::builder()
        .connect_timeout(source.timeout.0)
        .read_timeout(source.timeout.0)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .tcp_nodelay(true)
        .pool_max_idle_per_host(8)
        .pool_idle_timeout(Duration::from_secs(30))
        .user_agent(concat!("mocks3/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// The URL under which a source has an object, signed where it needs that.
///
/// # Errors
/// See [`Unaskable`].
pub fn object_url(
    source: &Source,
    method: &Method,
    bucket: &str,
    key: &str,
) -> Result<Url, Unaskable> {
    let bucket = bucket_of(source, bucket);
    let plain = |name: &str| !name.is_empty() && name.split('/').all(|s| s != "." && s != "..");
    if !plain(key) || !plain(bucket) || bucket.contains('/') {
        return Err(Unaskable::Key); // REQUEST-1
    }
    let place = place(source, bucket)?;
    let credentials = credentials(source);
    let credentials = credentials.as_ref();
    Ok(match (source.kind, *method == Method::HEAD) {
        (SourceKind::Http, _) => place.object_url(key),
        (SourceKind::S3, true) => place.head_object(credentials, key).sign(SIGNED_FOR),
        (SourceKind::S3, false) => place.get_object(credentials, key).sign(SIGNED_FOR),
    })
}

fn bucket_of<'a>(source: &'a Source, bucket: &'a str) -> &'a str {
    if source.bucket.is_empty() { bucket } else { &source.bucket }
}

/// `{endpoint}/{bucket}/`, under which both types of sources have their keys.
fn place(source: &Source, bucket: &str) -> Result<Bucket, Unaskable> {
    let endpoint: Result<Url, _> = source.endpoint.parse();
    let endpoint = endpoint.map_err(|e| Unaskable::Endpoint(e.to_string()))?;
    Bucket::new(endpoint, UrlStyle::Path, bucket.to_owned(), source.region.clone())
        .map_err(|e| Unaskable::Endpoint(format!("{e:?}")))
}

fn credentials(source: &Source) -> Option<Credentials> {
    let signs = source.kind == SourceKind::S3 && !source.access_key.is_empty();
    signs.then(|| Credentials::new(&source.access_key, &source.secret_key))
}

/// What a listing asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListWanted {
    /// Bucket name.
    pub bucket: String,
    /// Only keys that begin so.
    pub prefix: String,
    /// Keys after this one.
    pub after: Option<String>,
    /// At most so many.
    pub max: u32,
}

/// The URL of a listing.
///
/// # Errors
/// See [`Unaskable`].
pub fn list_url(source: &Source, wanted: &ListWanted) -> Result<Url, Unaskable> {
    if source.kind != SourceKind::S3 {
        return Err(Unaskable::Kind);
    }
    let place = place(source, bucket_of(source, &wanted.bucket))?;
    let credentials = credentials(source);
    let mut list = ListObjectsV2::new(&place, credentials.as_ref());
    list.with_prefix(wanted.prefix.clone());
    list.with_max_keys(wanted.max as usize);
    if let Some(after) = &wanted.after {
        list.with_start_after(after.clone());
    }
    Ok(list.sign(SIGNED_FOR))
}

/// Reads a listing.
///
/// # Errors
/// What is wrong with the answer.
pub async fn read_listing(name: &str, mut response: Response) -> Result<Listed, String> {
    let mut text = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|e| e.to_string())? {
        text.extend_from_slice(&piece);
        if text.len() > LIST_LIMIT {
            return Err(format!("the listing exceeds {LIST_LIMIT} bytes"));
        }
    }
    let listing = ListObjectsV2::parse_response(String::from_utf8_lossy(&text).as_ref())
        .map_err(|e| e.to_string())?;
    let mut truncated = listing.next_continuation_token.is_some();
    let (mut objects, mut bytes) = (Vec::new(), 0);
    for entry in listing.contents {
        bytes += entry.key.len() + 128;
        if bytes > PAGE_BYTES {
            truncated = true; // the caller goes on after the last key that it got
            break;
        }
        objects.push(ListedObject {
            key: entry.key,
            size: entry.size.unwrap_or_default(),
            etag: entry.etag.unwrap_or_default().trim_matches('"').to_owned(),
            last_modified: entry.last_modified.unwrap_or_default(),
        });
    }
    Ok(Listed { source: name.to_owned(), objects, truncated })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(kind: &str, more: &str) -> Source {
        let text =
            format!("name = \"a\"\ntype = \"{kind}\"\nendpoint = \"http://h:1/base\"\n{more}");
        toml::from_str(&text).unwrap()
    }

    #[test]
    fn a_url_names_exactly_the_key_or_there_is_none() {
        let http = source("http", "");
        let url = |key: &str| object_url(&http, &Method::GET, "b", key).map(|u| u.to_string());
        let rows = [
            ("k", Ok("http://h:1/base/b/k")),
            ("a b/ü+%2F?#", Ok("http://h:1/base/b/a%20b/%C3%BC%2B%252F%3F%23")),
            ("/x//y/", Ok("http://h:1/base/b//x//y/")),
            ("a/.../b.", Ok("http://h:1/base/b/a/.../b.")),
            ("a/../b", Err(Unaskable::Key)),
            (".", Err(Unaskable::Key)),
            ("", Err(Unaskable::Key)),
        ];
        for (key, expected) in rows {
            assert_eq!(url(key), expected.map(str::to_owned), "{key}"); // REQUEST-1
        }
        assert!(object_url(&http, &Method::GET, "..", "k").is_err());
        let mapped = source("http", "bucket = \"other\"");
        let url = object_url(&mapped, &Method::GET, "b", "k").unwrap();
        assert_eq!(url.as_str(), "http://h:1/base/other/k");
    }

    fn decoded(path: &str) -> Vec<u8> {
        let (mut bytes, mut out) = (path.bytes(), Vec::new());
        while let Some(byte) = bytes.next() {
            let hex = |b: Option<u8>| (b.unwrap() as char).to_digit(16).unwrap() as u8;
            let plain = byte != b'%';
            out.push(if plain { byte } else { hex(bytes.next()) * 16 + hex(bytes.next()) });
        }
        out
    }

    proptest::proptest! {
        #[test]
        fn any_key_comes_back_out_of_its_url(key in "[a-c./\\\\%?#;:@&=+ \t\n\r\\PC]{0,12}") {
            let http = source("http", "");
            if let Ok(url) = object_url(&http, &Method::GET, "b", &key) {
                let wanted = format!("/base/b/{key}");
                proptest::prop_assert_eq!(decoded(url.path()), wanted.into_bytes());
                proptest::prop_assert_eq!((url.query(), url.fragment()), (None, None));
            }
        }
    }

    #[test]
    fn only_s3_sources_with_keys_sign() {
        let signed = source("s3", "access_key = \"ak\"\nsecret_key = \"sk\"");
        let url = |s: &Source| object_url(s, &Method::HEAD, "b", "k").unwrap().to_string();
        let text = url(&signed);
        assert!(text.starts_with("http://h:1/base/b/k?X-Amz-Algorithm=AWS4-HMAC-SHA256"), "{text}");
        assert!(text.contains("us-east-1") && !text.contains("sk&"), "{text}");
        assert_eq!(url(&source("s3", "")), "http://h:1/base/b/k");
        let http = source("http", "access_key = \"ak\"\nsecret_key = \"sk\"");
        assert_eq!(url(&http), "http://h:1/base/b/k");
    }
}
