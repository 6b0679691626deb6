//! Cross-origin requests: preflight, the headers on actual answers, and the bucket's rules.
//!
//! The rules are matched by a pure core; the edge calls it for `OPTIONS` and for every request
//! with an `Origin`. Source: the S3 user guide, "How CORS works", and the Fetch standard.
//!
//! - `CORS-1` the first rule that fits origin, method and all asked headers decides;
//! - `CORS-2` an answer says `*` only where the rule's origin is the bare `*`.

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use s3s::dto::*;
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};

use crate::actors::metadata::command::BucketChange;
use crate::actors::metadata::model::{CorsRule, Refused};

use super::Cx;
use super::bucket::{configure, own};
use super::error;

const METHODS: [&str; 5] = ["GET", "PUT", "HEAD", "POST", "DELETE"];
const MAX_RULES: usize = 100;

/// What a browser asks, in a preflight or with an actual request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// `Origin`.
    pub origin: String,
    /// The method meant.
    pub method: String,
    /// `Access-Control-Request-Headers`, in lower case.
    pub headers: Vec<String>,
    /// It is a preflight.
    pub preflight: bool,
}

impl Asked {
    /// Reads the headers; `None` where the request is not cross-origin (or no valid preflight).
    pub fn of(method: &Method, headers: &HeaderMap) -> Option<Self> {
        let text = |name: HeaderName| headers.get(name)?.to_str().ok().map(str::to_owned);
        let origin = text(header::ORIGIN)?;
        let preflight = method == Method::OPTIONS;
        let method = match preflight {
            true => text(header::ACCESS_CONTROL_REQUEST_METHOD)?,
            false => method.as_str().to_owned(),
        };
        let list = text(header::ACCESS_CONTROL_REQUEST_HEADERS).filter(|_| preflight);
        let list = list.unwrap_or_default();
        let headers = list.split(',').map(|h| h.trim().to_ascii_lowercase());
        let headers = headers.filter(|h| !h.is_empty()).collect();
        Some(Asked { origin, method, headers, preflight })
    }
}

/// The first rule that allows what is asked (CORS-1).
pub fn find<'a>(rules: &'a [CorsRule], asked: &Asked) -> Option<&'a CorsRule> {
    rules.iter().find(|rule| {
        rule.allowed_methods.contains(&asked.method)
            && rule.allowed_origins.iter().any(|pattern| fits(pattern, &asked.origin))
            && asked.headers.iter().all(|name| {
                let mut allowed = rule.allowed_headers.iter();
                allowed.any(|pattern| fits(&pattern.to_ascii_lowercase(), name))
            })
    })
}

/// A text against a pattern with at most one `*`.
fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, tail)) => {
            text.len() >= head.len() + tail.len() && text.starts_with(head) && text.ends_with(tail)
        }
    }
}

/// The headers that tell a browser what a rule allows.
pub fn answer(rule: &CorsRule, asked: &Asked) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut set = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    if rule.allowed_origins.iter().any(|origin| origin == "*") {
        set(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"); // CORS-2
    } else {
        set(header::ACCESS_CONTROL_ALLOW_ORIGIN, &asked.origin);
        set(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, "true");
    }
    set(header::ACCESS_CONTROL_ALLOW_METHODS, &rule.allowed_methods.join(", "));
    if !asked.headers.is_empty() {
        set(header::ACCESS_CONTROL_ALLOW_HEADERS, &asked.headers.join(", "));
    }
    if !rule.expose_headers.is_empty() {
        set(header::ACCESS_CONTROL_EXPOSE_HEADERS, &rule.expose_headers.join(", "));
    }
    if let Some(seconds) = rule.max_age_seconds.filter(|_| asked.preflight) {
        set(header::ACCESS_CONTROL_MAX_AGE, &seconds.to_string());
    }
    set(header::VARY, "Origin, Access-Control-Request-Headers, Access-Control-Request-Method");
    headers
}

/// The error of a preflight that no rule allows.
pub fn forbidden() -> S3Error {
    let code = S3ErrorCode::Custom("AccessForbidden".into());
    let text = "CORSResponse: This CORS request is not allowed. This is usually because the \
                evaluation of Origin, request method / Access-Control-Request-Method or \
                Access-Control-Request-Headers are not whitelisted by the resource's CORS spec.";
    let mut error = S3Error::with_message(code, text);
    error.set_status_code(http::StatusCode::FORBIDDEN);
    error
}

/// The error of an `OPTIONS` request that is no preflight.
pub fn not_a_preflight() -> S3Error {
    let code = S3ErrorCode::Custom("BadRequest".into());
    let text = "Insufficient information. Origin request header needed.";
    let mut error = S3Error::with_message(code, text);
    error.set_status_code(http::StatusCode::BAD_REQUEST);
    error
}

/// GetBucketCors.
pub async fn get(
    cx: Cx,
    req: S3Request<GetBucketCorsInput>,
) -> S3Result<S3Response<GetBucketCorsOutput>> {
    let rules = own(&cx, &req.input.bucket).await?.cors;
    let rules = rules.ok_or_else(|| error::of_refused(Refused::NoSuchCors))?;
    let cors_rules = Some(rules.into_iter().map(to_xml).collect());
    Ok(S3Response::new(GetBucketCorsOutput { cors_rules }))
}

fn to_xml(rule: CorsRule) -> CORSRule {
    let list = |list: Vec<String>| (!list.is_empty()).then_some(list);
    CORSRule {
        id: rule.id,
        allowed_origins: rule.allowed_origins,
        allowed_methods: rule.allowed_methods,
        allowed_headers: list(rule.allowed_headers),
        expose_headers: list(rule.expose_headers),
        max_age_seconds: rule.max_age_seconds.map(|s| s as i32),
    }
}

/// PutBucketCors.
pub async fn put(
    cx: Cx,
    req: S3Request<PutBucketCorsInput>,
) -> S3Result<S3Response<PutBucketCorsOutput>> {
    let rules = req.input.cors_configuration.cors_rules;
    if rules.is_empty() || rules.len() > MAX_RULES {
        return Err(S3ErrorCode::MalformedXML.into());
    }
    let rules: Vec<_> = rules.into_iter().map(of_xml).collect::<S3Result<_>>()?;
    configure(&cx, &req.input.bucket, BucketChange::Cors { rules: Some(rules) }).await?;
    Ok(S3Response::new(PutBucketCorsOutput::default()))
}

fn of_xml(rule: CORSRule) -> S3Result<CorsRule> {
    let invalid = |text: String| Err(S3Error::with_message(S3ErrorCode::InvalidRequest, text));
    if rule.allowed_methods.is_empty() || rule.allowed_origins.is_empty() {
        return Err(S3ErrorCode::MalformedXML.into());
    }
    if let Some(method) = rule.allowed_methods.iter().find(|m| !METHODS.contains(&m.as_str())) {
        return invalid(format!("Found unsupported HTTP method in CORS config: {method}"));
    }
    let allowed_headers = rule.allowed_headers.unwrap_or_default();
    let mut patterns = rule.allowed_origins.iter().chain(&allowed_headers);
    if let Some(pattern) = patterns.find(|p| p.matches('*').count() > 1) {
        return invalid(format!("\"{pattern}\" can not have more than one wildcard."));
    }
    let expose_headers = rule.expose_headers.unwrap_or_default();
    if let Some(name) = expose_headers.iter().find(|name| name.contains('*')) {
        return invalid(format!("ExposeHeader \"{name}\" contains wildcard."));
    }
    Ok(CorsRule {
        id: rule.id,
        allowed_origins: rule.allowed_origins,
        allowed_methods: rule.allowed_methods,
        allowed_headers,
        expose_headers,
        max_age_seconds: rule.max_age_seconds.and_then(|s| u32::try_from(s).ok()),
    })
}

/// DeleteBucketCors.
pub async fn delete(
    cx: Cx,
    req: S3Request<DeleteBucketCorsInput>,
) -> S3Result<S3Response<DeleteBucketCorsOutput>> {
    configure(&cx, &req.input.bucket, BucketChange::Cors { rules: None }).await?;
    let output = DeleteBucketCorsOutput::default();
    Ok(S3Response::with_status(output, http::StatusCode::NO_CONTENT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(origins: &[&str], methods: &[&str], headers: &[&str]) -> CorsRule {
        let list = |l: &[&str]| l.iter().map(|s| s.to_string()).collect();
        CorsRule {
            allowed_origins: list(origins),
            allowed_methods: list(methods),
            allowed_headers: list(headers),
            expose_headers: vec!["ETag".into()],
            max_age_seconds: Some(60),
            ..CorsRule::default()
        }
    }

    fn asked(origin: &str, method: &str, headers: &[&str]) -> Asked {
        let headers = headers.iter().map(|h| h.to_string()).collect();
        Asked { origin: origin.into(), method: method.into(), headers, preflight: true }
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let rules = [
            rule(&["https://*.example.com"], &["PUT"], &["x-amz-*", "Content-Type"]),
            rule(&["*"], &["GET"], &[]),
        ];
        let found = |a: Asked| find(&rules, &a).map(|r| r.allowed_methods[0].clone());
        let rows = [
            (asked("https://a.example.com", "PUT", &[]), Some("PUT")),
            (asked("https://a.example.com", "PUT", &["x-amz-acl", "content-type"]), Some("PUT")),
            (asked("https://a.example.com", "PUT", &["authorization"]), None),
            (asked("https://example.org", "PUT", &[]), None),
            (asked("https://example.org", "GET", &[]), Some("GET")),
            (asked("https://a.example.com", "GET", &["x-a"]), None),
            (asked("https://a.example.com", "DELETE", &[]), None),
        ];
        for (asked, expected) in rows {
            assert_eq!(found(asked.clone()).as_deref(), expected, "{asked:?}");
        }
        assert!(!fits("ab*ba", "aba"), "the parts around the star must not overlap");
    }

    #[test]
    fn the_answer_names_the_origin_unless_all_are_allowed() {
        let ask = asked("https://a.b", "GET", &["x-a"]);
        let some = answer(&rule(&["https://a.*"], &["GET", "PUT"], &["*"]), &ask);
        assert_eq!(some["access-control-allow-origin"], "https://a.b");
        assert_eq!(some["access-control-allow-credentials"], "true");
        assert_eq!(some["access-control-allow-methods"], "GET, PUT");
        assert_eq!(some["access-control-allow-headers"], "x-a");
        assert_eq!(some["access-control-max-age"], "60");
        let all = answer(&rule(&["*"], &["GET"], &["*"]), &Asked { preflight: false, ..ask });
        assert_eq!(all["access-control-allow-origin"], "*");
        assert!(!all.contains_key("access-control-allow-credentials"));
        assert!(!all.contains_key("access-control-max-age"));
    }

    #[test]
    fn only_requests_with_an_origin_are_cross_origin() {
        let mut headers = HeaderMap::new();
        assert_eq!(Asked::of(&Method::GET, &headers), None);
        headers.insert("origin", "https://a.b".parse().unwrap());
        assert!(!Asked::of(&Method::GET, &headers).unwrap().preflight);
        assert_eq!(Asked::of(&Method::OPTIONS, &headers), None, "no method is asked for");
        headers.insert("access-control-request-method", "PUT".parse().unwrap());
        headers.insert("access-control-request-headers", "X-A, x-b".parse().unwrap());
        let asked = Asked::of(&Method::OPTIONS, &headers).unwrap();
        assert_eq!((asked.method.as_str(), asked.headers.join("+").as_str()), ("PUT", "x-a+x-b"));
    }

    #[test]
    fn rules_that_s3_would_refuse_are_refused() {
        let xml = |origin: &str, method: &str, expose: &str| CORSRule {
            allowed_origins: vec![origin.into()],
            allowed_methods: vec![method.into()],
            allowed_headers: None,
            expose_headers: Some(vec![expose.into()]),
            id: None,
            max_age_seconds: None,
        };
        assert!(of_xml(xml("https://*", "GET", "ETag")).is_ok());
        assert!(of_xml(xml("*.*", "GET", "ETag")).is_err());
        assert!(of_xml(xml("*", "PATCH", "ETag")).is_err());
        assert!(of_xml(xml("*", "GET", "x-*")).is_err());
    }
}
