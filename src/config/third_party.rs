//! The section `[third_party]`: sources outside the cluster, and what is kept of their answers.
//!
//! A [`Source`] also travels between nodes and stands in the file of those added over HTTP.

use serde::{Deserialize, Serialize};

use super::{Bytes, Span};

/// The most sources of one cluster.
pub const MAX_SOURCES: usize = 64;
/// The longest text in the description of a source, in bytes.
const MAX_TEXT: usize = 256;

/// Sources outside the cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ThirdParty {
    /// What the cache of small objects may hold; "0B" = no cache.
    pub cache_size: Bytes,
    /// How long an object stays in the cache.
    pub cache_ttl: Span,
    /// What bodies that are checked before they are given out may occupy on disk.
    pub spool_size: Bytes,
    /// How many objects are fetched at once; more are refused.
    pub fetches: usize,
    /// How long all sources together may take to begin an answer.
    pub timeout: Span,
    /// Consecutive failures after which a source is left alone.
    pub breaker_failures: u32,
    /// How long it is left alone the first time; doubles each time, up to 12 times as long.
    pub breaker_pause: Span,
    /// The sources.
    pub sources: Vec<Source>,
}

impl Default for ThirdParty {
    fn default() -> Self {
        ThirdParty {
            cache_size: Bytes::mib(32),
            cache_ttl: Span::secs(300),
            spool_size: Bytes::mib(8192),
            fetches: 64,
            timeout: Span::secs(20),
            breaker_failures: 5,
            breaker_pause: Span::secs(5),
            sources: Vec::new(),
        }
    }
}

/// How a source is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// `GET {endpoint}/{bucket}/{key}`.
    Http,
    /// The S3 API, path-style, with a signature where there is an access key.
    S3,
}

/// One source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Its name, unique.
    pub name: String,
    /// How it is asked.
    #[serde(rename = "type")]
    pub kind: SourceKind,
    /// `http://` or `https://` URL; for the type `http` the base under which the buckets stand.
    #[serde(alias = "base_url")]
    pub endpoint: String,
    /// Access key; empty = requests are not signed.
    #[serde(default)]
    pub access_key: String,
    /// Secret key.
    #[serde(default)]
    pub secret_key: String,
    /// The region that signatures name.
    #[serde(default = "default_region")]
    pub region: String,
    /// The bucket there; empty = the one of the same name.
    #[serde(default, alias = "bucket_name")]
    pub bucket: String,
    /// How long it may take to begin an answer, and how long it may stand still within one.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
    /// How often a request that failed is sent again.
    #[serde(default = "default_retries")]
    pub max_retries: u32,
    /// The pause before the first retry; doubles each time.
    #[serde(default = "default_interval")]
    pub retry_interval: Span,
    /// The lowest number is asked first.
    #[serde(default = "default_priority")]
    pub priority: u32,
    /// Whether it is asked at all.
    #[serde(default = "default_enabled")]
    pub enabled: bool,
}

fn default_region() -> String {
    "us-east-1".into()
}

fn default_timeout() -> Span {
    Span::secs(3)
}

fn default_retries() -> u32 {
    2
}

fn default_interval() -> Span {
    Span::millis(100)
}

fn default_priority() -> u32 {
    100
}

fn default_enabled() -> bool {
    true
}

impl Source {
    /// Refuses what cannot work; says the field and why.
    ///
    /// # Errors
    /// The name of the field, and the reason.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        let texts = [
            ("name", &self.name),
            ("endpoint", &self.endpoint),
            ("access_key", &self.access_key),
            ("secret_key", &self.secret_key),
            ("region", &self.region),
            ("bucket", &self.bucket),
        ];
        if let Some((field, _)) = texts.into_iter().find(|(_, text)| text.len() > MAX_TEXT) {
            return Err((field, format!("longer than {MAX_TEXT} bytes")));
        }
        let simple = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if self.name.is_empty() || !self.name.chars().all(simple) {
            return Err(("name", "expected letters, digits, \"-\", \"_\" and \".\"".into()));
        }
        let rest = ["http://", "https://"].iter().find_map(|s| self.endpoint.strip_prefix(s));
        if rest.is_none_or(|r| r.is_empty() || r.starts_with('/') || r.contains(['?', '#', '@'])) {
            let what = format!("{:?} is no http:// or https:// URL of a server", self.endpoint);
            return Err(("endpoint", what));
        }
        if self.bucket.contains('/') {
            return Err(("bucket", "a bucket name holds no \"/\"".into()));
        }
        if self.access_key.is_empty() != self.secret_key.is_empty() {
            return Err(("secret_key", "access_key and secret_key go together".into()));
        }
        if self.timeout < Span::millis(10) || self.timeout > Span::secs(600) {
            return Err(("timeout", "expected \"10ms\" to \"10min\"".into()));
        }
        if self.max_retries > 10 {
            return Err(("max_retries", "expected at most 10".into()));
        }
        if self.retry_interval > Span::secs(10) {
            return Err(("retry_interval", "expected at most \"10s\"".into()));
        }
        Ok(())
    }
}

impl ThirdParty {
    /// What types alone cannot say.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.fetches == 0 || self.fetches > 1024 {
            return Err("third_party.fetches: expected 1 to 1024".into());
        }
        if self.breaker_failures == 0 {
            return Err("third_party.breaker_failures: expected at least 1".into());
        }
        if self.sources.len() > MAX_SOURCES {
            return Err(format!("third_party.sources: expected at most {MAX_SOURCES}"));
        }
        for (i, source) in self.sources.iter().enumerate() {
            let name = &source.name;
            source.check().map_err(|(field, why)| {
                format!("third_party.sources: source {name:?}: {field}: {why}")
            })?;
            if self.sources[..i].iter().any(|s| s.name == *name) {
                return Err(format!("third_party.sources: {name:?} is there twice"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(), String> {
        let section: ThirdParty = toml::from_str(text).map_err(|e| e.to_string())?;
        section.check()
    }

    #[test]
    fn a_source_needs_a_name_a_type_and_an_endpoint() {
        let good = "[[sources]]\nname = \"a\"\ntype = \"http\"\nbase_url = \"http://h:1/x\"\n";
        assert_eq!(read(good), Ok(()));
        let s3 = "[[sources]]\nname = \"a\"\ntype = \"s3\"\nendpoint = \"https://h\"\n";
        assert_eq!(read(s3), Ok(()));
        let rows = [
            (good.replace("http://h:1/x", "ftp://h"), "endpoint"),
            (good.replace("http://h:1/x", "http://"), "endpoint"),
            (good.replace("\"a\"", "\"\""), "name"),
            (good.replace("\"http\"", "\"gcs\""), "gcs"),
            (format!("{good}{good}"), "twice"),
            (format!("{s3}access_key = \"k\"\n"), "secret_key"),
            (format!("{s3}timeout = \"0s\"\n"), "timeout"),
            (format!("{s3}max_retries = 11\n"), "max_retries"),
            (format!("{s3}bucket = \"a/b\"\n"), "bucket"),
            (format!("{s3}color = \"red\"\n"), "color"),
            (format!("fetches = 0\n{s3}"), "fetches"),
        ];
        for (text, expected) in rows {
            let error = read(&text).unwrap_err();
            assert!(error.contains(expected), "{error:?} does not name {expected:?}");
        }
    }
}
