//! Who asks, and where a request points: users, anonymous access, virtual hosts.
//!
//! Handed to `s3s`, which checks the signatures. Ownership of buckets is checked by the flows.
//!
//! - `ACCESS-1` an unsigned request is refused unless anonymous access is switched on;
//! - `ACCESS-2` a host name addresses a bucket only under a configured domain (`localhost` is
//!   always one); any other host is path-style.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use http::header;
use http::request::Parts;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::host::{S3Host, VirtualHost};
use s3s::{S3Error, S3ErrorCode, S3Result};

use crate::config;

use super::unsupported;

/// The users, by access key.
pub struct Users {
    by_key: HashMap<String, (String, SecretKey)>,
    anonymous: Option<String>,
}

impl Users {
    /// The users of a configuration. Unsigned requests act as the first one, where they are
    /// allowed.
    pub fn new(config: &config::S3) -> Self {
        let users = config.all_users();
        let anonymous = users.first().filter(|_| config.anonymous).map(|first| first.name.clone());
        let by_key = users
            .into_iter()
            .map(|user| (user.access_key, (user.name, SecretKey::from(user.secret_key))))
            .collect();
        Users { by_key, anonymous }
    }

    /// The secret that goes with an access key.
    ///
    /// # Errors
    /// `InvalidAccessKeyId`.
    pub fn secret(&self, access_key: &str) -> S3Result<&SecretKey> {
        self.by_key.get(access_key).map(|(_, secret)| secret).ok_or_else(|| {
            let text = "The access key you provided does not exist in our records";
            S3Error::with_message(S3ErrorCode::InvalidAccessKeyId, text)
        })
    }

    /// The name of the user with this access key, or of whom unsigned requests act as.
    pub fn name(&self, access_key: Option<&str>) -> Option<&str> {
        match access_key {
            Some(key) => self.by_key.get(key).map(|(name, _)| name.as_str()),
            None => self.anonymous.as_deref(),
        }
    }
}

/// The secret keys, for `s3s`.
pub struct Auth(pub Arc<Users>);

#[async_trait::async_trait]
impl S3Auth for Auth {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        self.0.secret(access_key).cloned()
    }
}

/// The check of every operation before it is read.
pub struct Access(pub Arc<Users>);

#[async_trait::async_trait]
impl S3Access for Access {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        let operation = cx.s3_op().name().to_owned();
        if let Some(label) = cx.extensions_mut().get::<OperationLabel>() {
            label.set(&operation);
        }
        let key = cx.credentials().map(|c| c.access_key.clone());
        if self.0.name(key.as_deref()).is_none() {
            return Err(S3Error::with_message(S3ErrorCode::AccessDenied, "Access Denied"));
        }
        unsupported::check(&operation, cx.headers(), cx.uri().query())
    }
}

/// Which operation a request turned out to be: told by the check above, read by the edge. The names
/// are those of S3, so there are not many.
#[derive(Clone, Debug, Default)]
pub struct OperationLabel(Arc<OnceLock<String>>);

impl OperationLabel {
    fn set(&self, name: &str) {
        let _ = self.0.set(name.to_owned()); // a request is one operation
    }

    /// The name; `Unknown` where the request was refused before it was known.
    pub fn name(&self) -> &str {
        self.0.get().map_or("Unknown", String::as_str)
    }
}

/// Whether a signature's scope names a region in letters that `s3s` does not take (`US` of s3cmd).
///
/// Any region in small letters is accepted; for others the client is told ours, and signs again.
pub fn has_foreign_region(parts: &Parts) -> bool {
    let header = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let header = header.and_then(|value| value.split("Credential=").nth(1));
    let query = parts.uri.query().unwrap_or_default();
    let query = query.split('&').find_map(|pair| pair.strip_prefix("X-Amz-Credential="));
    let query = query.map(|scope| scope.replace("%2F", "/").replace("%2f", "/"));
    let Some(scope) = header.map(str::to_owned).or(query) else { return false };
    let region = scope.split('/').nth(2).unwrap_or_default();
    !region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// The domains under which host names address buckets, for `s3s`.
#[derive(Clone)]
pub struct Hosts {
    domains: Vec<String>,
}

impl Hosts {
    /// The domains of a configuration, and `localhost`.
    pub fn new(config: &config::S3) -> Self {
        let mut domains: Vec<_> = config.domains.iter().map(|d| d.to_ascii_lowercase()).collect();
        domains.push("localhost".into());
        domains.sort_by_key(|d| std::cmp::Reverse(d.len())); // the longest match wins
        domains.dedup();
        Hosts { domains }
    }

    /// The bucket that a `Host` header addresses (ACCESS-2).
    pub fn bucket(&self, host: &str) -> Option<String> {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => host,
        };
        let name = name.to_ascii_lowercase();
        if self.domains.contains(&name) {
            return None;
        }
        self.domains.iter().find_map(|domain| {
            let bucket = name.strip_suffix(domain.as_str())?.strip_suffix('.')?;
            (!bucket.is_empty()).then(|| bucket.to_owned())
        })
    }
}

impl S3Host for Hosts {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        let virtual_host = VirtualHost::new(host);
        Ok(match self.bucket(host) {
            Some(bucket) => virtual_host.with_bucket(bucket),
            None => virtual_host,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_address_buckets_only_under_known_domains() {
        let domains = vec!["s3.example.com".into(), "Example.com".into()];
        let hosts = Hosts::new(&config::S3 { domains, ..config::S3::default() });
        let rows = [
            ("localhost", None),
            ("localhost:8082", None),
            ("127.0.0.1:8082", None),
            ("storage:8082", None),
            ("my-bucket.localhost", Some("my-bucket")),
            ("my-bucket.localhost:8082", Some("my-bucket")),
            ("My.Bucket.LOCALHOST:8082", Some("my.bucket")),
            ("s3.example.com", None),
            ("b.s3.example.com", Some("b")),
            ("b.example.com", Some("b")),
            (".localhost", None),
            ("notlocalhost", None),
            ("b.elsewhere.org", None),
        ];
        for (host, expected) in rows {
            assert_eq!(hosts.bucket(host).as_deref(), expected, "{host}");
        }
    }

    #[test]
    fn regions_in_capital_letters_are_noticed() {
        let parts = |uri: &str, scope: &str| {
            let value = format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host");
            let request = http::Request::builder().uri(uri);
            let request =
                if scope.is_empty() { request } else { request.header("authorization", value) };
            request.body(()).unwrap().into_parts().0
        };
        let rows = [
            ("/", "k/20261122/us-east-1/s3/aws4_request", false),
            ("/", "k/20261122/anywhere-9/s3/aws4_request", false),
            ("/", "k/20261122/US/s3/aws4_request", true),
            ("/?X-Amz-Credential=k%2F20261122%2FEU%2Fs3%2Faws4_request", "", true),
            ("/?X-Amz-Credential=k%2F20261122%2Feu-west-1%2Fs3%2Faws4_request", "", false),
            ("/", "", false),
        ];
        for (uri, scope, expected) in rows {
            assert_eq!(has_foreign_region(&parts(uri, scope)), expected, "{uri} {scope}");
        }
    }

    #[test]
    fn unsigned_requests_have_a_name_only_where_the_switch_is_on() {
        let user = |name: &str| config::User {
            name: name.into(),
            access_key: format!("{name}-key"),
            secret_key: "12345678".into(),
        };
        let mut config = config::S3 {
            default_user: false,
            users: vec![user("alice"), user("bob")],
            ..config::S3::default()
        };
        let users = Users::new(&config);
        assert_eq!(users.name(Some("bob-key")), Some("bob"));
        assert_eq!(users.name(Some("mocks3")), None);
        assert_eq!(users.name(None), None, "ACCESS-1");
        config.anonymous = true;
        assert_eq!(Users::new(&config).name(None), Some("alice"));
    }
}
