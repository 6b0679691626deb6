//! What a signature must cover, and how long it lives; that it is right is checked by `s3s`.
//!
//! Called by the edge for every request, before `s3s`. Plain functions over the request's head.
//! Source: the S3 pages on signature version 4, and on query string authentication.
//!
//! - `SIGNED-1` an `x-amz-*` header that the signature does not cover is refused: who holds a
//!   presigned PUT must not make a copy of another key out of it;
//! - `SIGNED-2` a presigned URL lives for a week at most, a signature of version 2 for a quarter of
//!   an hour;
//! - `SIGNED-3` `x-amz-*` parameters of a presigned URL mean the same as headers.

use http::header::{AUTHORIZATION, DATE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};
use s3s::{S3Error, S3ErrorCode, S3Result};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use crate::types::UnixMillis;

use super::convert::url_decode;
use super::error::{bad_query, invalid_argument, not_implemented};
use super::framing;

/// The longest life of a presigned URL, in seconds.
const MAX_EXPIRES: u64 = 604_800;
/// How far the clock of a client may be off.
const MAX_SKEW_MS: u64 = 15 * 60 * 1000;

/// Headers that change nothing which is not checked otherwise.
const NEED_NOT_BE_SIGNED: [&str; 3] = ["x-amz-content-sha256", "x-amz-date", "x-amz-user-agent"];

/// Parameters that make up a presigned URL, or that only speak about its body.
const OF_THE_SIGNATURE: [&str; 9] = [
    "x-amz-algorithm",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-expires",
    "x-amz-signedheaders",
    "x-amz-signature",
    "x-amz-security-token",
    "x-amz-content-sha256",
    "x-amz-user-agent",
];

/// Checks what the signature says about itself, and turns parameters into headers (SIGNED-3).
///
/// # Errors
/// `AuthorizationQueryParametersError`, `AccessDenied`, `RequestTimeTooSkewed` or `NotImplemented`.
pub fn check(parts: &mut Parts, now_ms: UnixMillis) -> S3Result<()> {
    let query = pairs(parts.uri.query().unwrap_or_default());
    let find = |name: &str| query.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    let authorization = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let by_header = authorization.filter(|text| text.starts_with("AWS4-"));
    let presigned = find("X-Amz-Signature").is_some();
    if let Some(names) = find("X-Amz-SignedHeaders").filter(|_| presigned) {
        check_life(find("X-Amz-Expires").unwrap_or_default())?;
        check_covered(names, &parts.headers)?;
    } else if let Some(names) = by_header.and_then(signed_headers) {
        check_covered(names, &parts.headers)?;
    } else if authorization.is_some_and(|text| text.starts_with("AWS ")) {
        check_date(&parts.headers, now_ms)?;
    }
    if framing::kind(&parts.headers).is_some() && (by_header.is_none() || presigned) {
        return Err(not_implemented("a chunked upload without a signature of version 4"));
    }
    if presigned || find("Signature").is_some() {
        promote(&query, &mut parts.headers)?;
    }
    Ok(())
}

/// The parameters of a query, decoded; what cannot be decoded is left to `s3s` to refuse.
fn pairs(query: &str) -> Vec<(String, String)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.filter_map(|(name, value)| Some((url_decode(name)?, url_decode(value)?))).collect()
}

fn signed_headers(authorization: &str) -> Option<&str> {
    let names = authorization.split_once("SignedHeaders=")?.1;
    names.split([',', ' ']).next()
}

/// SIGNED-2.
fn check_life(expires: &str) -> S3Result<()> {
    match expires.parse::<i64>() {
        Err(_) => Err(bad_query("X-Amz-Expires should be a number")),
        Ok(seconds) if seconds < 0 => Err(bad_query("X-Amz-Expires must be non-negative")),
        Ok(seconds) if seconds as u64 > MAX_EXPIRES => {
            let text = "X-Amz-Expires must be less than a week (in seconds) that is 604800";
            Err(bad_query(text))
        }
        Ok(_) => Ok(()),
    }
}

/// SIGNED-1.
fn check_covered(signed: &str, headers: &HeaderMap) -> S3Result<()> {
    let covers = |name: &str| signed.split(';').any(|signed| signed.eq_ignore_ascii_case(name));
    let denied = |text: String| Err(S3Error::with_message(S3ErrorCode::AccessDenied, text));
    if !covers("host") {
        return denied("The header 'host' must be signed".to_owned());
    }
    let mut names = headers.keys().map(HeaderName::as_str).filter(|n| n.starts_with("x-amz-"));
    match names.find(|name| !NEED_NOT_BE_SIGNED.contains(name) && !covers(name)) {
        Some(name) => denied(format!(
            "There were headers present in the request which were not signed: {name}"
        )),
        None => Ok(()),
    }
}

/// The date of a request with a signature of version 2, which has no other end.
fn check_date(headers: &HeaderMap, now_ms: UnixMillis) -> S3Result<()> {
    let text = headers.get("x-amz-date").or_else(|| headers.get(DATE));
    let Some(at_ms) = text.and_then(|text| date_ms(text.to_str().ok()?)) else {
        let text = "AWS authentication requires a valid Date or x-amz-date header";
        return Err(S3Error::with_message(S3ErrorCode::AccessDenied, text));
    };
    if now_ms.abs_diff(at_ms) > MAX_SKEW_MS {
        return Err(S3ErrorCode::RequestTimeTooSkewed.into());
    }
    Ok(())
}

fn date_ms(text: &str) -> Option<UnixMillis> {
    let basic =
        time::format_description::parse_borrowed::<2>("[year][month][day]T[hour][minute][second]Z");
    let basic = || time::PrimitiveDateTime::parse(text, &basic.ok()?).ok();
    let at = OffsetDateTime::parse(text, &Rfc2822).ok();
    let at = at.or_else(|| Some(basic()?.assume_utc()))?;
    u64::try_from(at.unix_timestamp()).ok().map(|seconds| seconds * 1000)
}

/// SIGNED-3.
fn promote(query: &[(String, String)], headers: &mut HeaderMap) -> S3Result<()> {
    for (name, value) in query {
        let name = name.to_ascii_lowercase();
        if !name.starts_with("x-amz-") || OF_THE_SIGNATURE.contains(&name.as_str()) {
            continue;
        }
        let invalid = || invalid_argument(format!("the parameter {name} is invalid"));
        let value = HeaderValue::from_str(value).map_err(|_| invalid())?;
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid())?;
        match headers.get(&header) {
            None => drop(headers.insert(header, value)),
            Some(given) if *given == value => {}
            Some(_) => return Err(invalid()), // which of the two?
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = 1_445_412_480_000; // Wed, 21 Oct 2015 07:28:00 GMT

    fn checked(uri: &str, headers: &[(&str, &str)]) -> Result<HeaderMap, String> {
        let mut builder = http::Request::builder().uri(uri);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        let mut parts = builder.body(()).unwrap().into_parts().0;
        let code = |error: S3Error| error.code().as_str().to_owned();
        check(&mut parts, NOW).map_err(code)?;
        Ok(parts.headers)
    }

    fn presigned(more: &str) -> String {
        format!("/b/k?X-Amz-Signature=1&X-Amz-SignedHeaders=host%3Bx-amz-acl{more}")
    }

    #[test]
    fn a_presigned_url_lives_a_week_at_most() {
        let bad = Err("AuthorizationQueryParametersError".to_owned());
        let rows = [("0", true), ("604800", true), ("604801", false), ("-1", false), ("x", false)];
        for (seconds, good) in rows {
            let got = checked(&presigned(&format!("&X-Amz-Expires={seconds}")), &[]).map(drop);
            assert_eq!(got, if good { Ok(()) } else { bad.clone() }, "{seconds}");
        }
    }

    #[test]
    fn headers_that_change_the_request_must_be_signed() {
        let week = presigned("&X-Amz-Expires=60");
        let by_header = |names: &str| {
            format!("AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders={names},Signature=0")
        };
        let copy = ("x-amz-copy-source", "/b/secret");
        let (bare, full) = (by_header("host;range"), by_header("host;x-amz-copy-source"));
        let without_host = by_header("x-amz-copy-source");
        type Headers<'a> = &'a [(&'a str, &'a str)];
        let rows: [(&str, Headers, bool); 8] = [
            (&week, &[("x-amz-acl", "private"), ("content-type", "text/plain")], true),
            (&week, &[copy], false), // SIGNED-1
            (&week, &[("x-amz-content-sha256", "UNSIGNED-PAYLOAD")], true),
            ("/b/k", &[("authorization", &bare)], true),
            ("/b/k", &[("authorization", &bare), copy], false),
            ("/b/k", &[("authorization", &full), copy], true),
            ("/b/k", &[("authorization", &without_host), copy], false),
            ("/b/k", &[copy], true), // unsigned: refused, or allowed, as a whole
        ];
        for (i, (uri, headers, good)) in rows.into_iter().enumerate() {
            let expected = if good { Ok(()) } else { Err("AccessDenied".to_owned()) };
            assert_eq!(checked(uri, headers).map(drop), expected, "row {i}");
        }
    }

    #[test]
    fn parameters_of_a_presigned_url_become_headers() {
        let uri = presigned("&X-Amz-Expires=60&x-amz-meta-color=dark%20red&x-id=PutObject");
        let headers = checked(&uri, &[]).unwrap();
        assert_eq!(headers["x-amz-meta-color"], "dark red");
        assert_eq!(headers.len(), 1, "{headers:?}");
        let uri = presigned("&X-Amz-Expires=60&x-amz-acl=public-read");
        assert_eq!(checked(&uri, &[("x-amz-acl", "private")]), Err("InvalidArgument".into()));
        assert!(checked("/b/k?x-amz-meta-color=red", &[]).unwrap().is_empty());
    }

    #[test]
    fn a_signature_of_version_2_ends_with_its_date() {
        let rows = [
            ("date", "Wed, 21 Oct 2015 07:28:00 GMT", Ok(())),
            ("date", "Wed, 21 Oct 2015 07:42:59 GMT", Ok(())),
            ("x-amz-date", "Wed, 21 Oct 2015 07:28:00 +0000", Ok(())),
            ("x-amz-date", "20151021T072800Z", Ok(())),
            ("date", "Wed, 21 Oct 2015 07:43:01 GMT", Err("RequestTimeTooSkewed".to_owned())),
            ("date", "Wed, 21 Oct 2015 06:28:00 GMT", Err("RequestTimeTooSkewed".to_owned())),
            ("date", "yesterday", Err("AccessDenied".to_owned())),
            ("x-other", "", Err("AccessDenied".to_owned())),
        ];
        for (name, value, expected) in rows {
            let headers = [("authorization", "AWS key:signature"), (name, value)];
            assert_eq!(checked("/b", &headers).map(drop), expected, "{name}: {value}");
        }
    }

    #[test]
    fn framing_that_nobody_would_take_off_is_refused() {
        let framed = ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER");
        let v4 = ("authorization", "AWS4-HMAC-SHA256 Credential=a,SignedHeaders=host,Signature=0");
        assert!(checked("/b/k", &[v4, framed]).is_ok());
        assert_eq!(checked("/b/k", &[framed]), Err("NotImplemented".into()));
        let uri = presigned("&X-Amz-Expires=60");
        assert_eq!(checked(&uri, &[framed]), Err("NotImplemented".into()));
    }
}
