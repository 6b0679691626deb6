//! A real S3 client: presigned requests of `rusty-s3`, sent by `reqwest`, each with a deadline.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use mocks3::config::{DEFAULT_ACCESS_KEY, DEFAULT_SECRET_KEY};
use reqwest::{Client, Method, StatusCode};
use rusty_s3::actions::ListObjectsV2;
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};

/// How long a client waits for an answer.
const LIMIT: Duration = Duration::from_secs(5);
/// How long a signature is good.
const SIGNED: Duration = Duration::from_secs(600);

/// What came of a request.
#[derive(Debug)]
pub enum Answer {
    /// The whole answer.
    Told { status: StatusCode, etag: Option<String>, body: Bytes },
    /// No connection was made: the request was never there.
    NotSent,
    /// Anything else: whether it had an effect is not known.
    Unknown,
}

/// A client of one edge.
#[derive(Clone)]
pub struct S3 {
    endpoint: String,
    http: Client,
    keys: Credentials,
}

impl S3 {
    pub fn new(endpoint: &str) -> S3 {
        let http = Client::builder().timeout(LIMIT).connect_timeout(LIMIT / 5).no_proxy();
        S3 {
            endpoint: endpoint.to_owned(),
            http: http.build().unwrap(),
            keys: Credentials::new(DEFAULT_ACCESS_KEY, DEFAULT_SECRET_KEY),
        }
    }

    fn bucket(&self, name: &str) -> Bucket {
        let endpoint = self.endpoint.parse().unwrap();
        Bucket::new(endpoint, UrlStyle::Path, name.to_owned(), "us-east-1").unwrap()
    }

    pub async fn create_bucket(&self, name: &str) -> Answer {
        let url = self.bucket(name).create_bucket(&self.keys).sign(SIGNED);
        self.send(self.http.put(url)).await
    }

    /// `condition`: a header and its value.
    pub async fn put(
        &self,
        bucket: &str,
        key: &str,
        body: Bytes,
        condition: Option<(&'static str, String)>,
    ) -> Answer {
        let url = self.bucket(bucket).put_object(Some(&self.keys), key).sign(SIGNED);
        let request = self.http.put(url).body(body);
        self.send(condition.into_iter().fold(request, |r, (name, value)| r.header(name, value)))
            .await
    }

    pub async fn read(&self, method: Method, bucket: &str, key: &str) -> Answer {
        let bucket = self.bucket(bucket);
        let url = match method {
            Method::HEAD => bucket.head_object(Some(&self.keys), key).sign(SIGNED),
            _ => bucket.get_object(Some(&self.keys), key).sign(SIGNED),
        };
        self.send(self.http.request(method, url)).await
    }

    pub async fn delete(&self, bucket: &str, key: &str) -> Answer {
        let url = self.bucket(bucket).delete_object(Some(&self.keys), key).sign(SIGNED);
        self.send(self.http.delete(url)).await
    }

    pub async fn list(&self, bucket: &str) -> Answer {
        let url = self.bucket(bucket).list_objects_v2(Some(&self.keys)).sign(SIGNED);
        self.send(self.http.get(url)).await
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) if error.is_connect() => return Answer::NotSent,
            Err(_) => return Answer::Unknown,
        };
        let (status, etag) = (answer.status(), answer.headers().get("etag"));
        let etag = etag.and_then(|e| e.to_str().ok()).map(|e| e.trim_matches('"').to_owned());
        match answer.bytes().await {
            Ok(body) => Answer::Told { status, etag, body },
            Err(_) => Answer::Unknown,
        }
    }
}

/// Keys and ETags of a listing; None where there are more than it shows, or it is no listing.
pub fn listed(body: &[u8]) -> Option<BTreeMap<String, String>> {
    let page = ListObjectsV2::parse_response(std::str::from_utf8(body).ok()?).ok()?;
    let row = |c: rusty_s3::actions::list_objects_v2::ListObjectsContent| {
        (c.key, c.etag.unwrap_or_default().trim_matches('"').to_owned())
    };
    page.next_continuation_token.is_none().then(|| page.contents.into_iter().map(row).collect())
}
