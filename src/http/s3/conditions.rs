//! Conditions on reads and writes, from the words of `s3s` to ours.
//!
//! Used by the operations on objects and uploads. Plain functions.

use http::HeaderMap;
use s3s::S3Result;
use s3s::dto::{ETagCondition, Timestamp};

use crate::actors::metadata::command::Precondition;
use crate::objects::condition::{Conditions, TagCondition};

use super::convert::millis;
use super::error::{invalid_argument, not_implemented};

/// Conditions on a read.
pub fn conditions(
    if_match: Option<ETagCondition>,
    if_none_match: Option<ETagCondition>,
    if_modified_since: Option<Timestamp>,
    if_unmodified_since: Option<Timestamp>,
) -> Conditions {
    let tag = |condition| match condition {
        ETagCondition::Any => TagCondition::Any,
        ETagCondition::ETag(etag) => TagCondition::OneOf(listed_tags(etag.value())),
    };
    Conditions {
        if_match: if_match.map(tag),
        if_none_match: if_none_match.map(tag),
        if_modified_since: if_modified_since.map(|t| millis(&t)),
        if_unmodified_since: if_unmodified_since.map(|t| millis(&t)),
    }
}

/// The ETags of a list, which `s3s` takes for one: `a", "b` for `"a", "b"`.
fn listed_tags(text: &str) -> Vec<String> {
    let plain = |tag: &str| {
        let tag = tag.trim();
        tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"').to_owned()
    };
    text.split(',').map(plain).collect()
}

/// The condition on a write: one of `If-Match` and `If-None-Match: *`.
///
/// # Errors
/// `NotImplemented` for `If-None-Match` with an ETag, and for both at once.
pub fn precondition(
    if_match: Option<ETagCondition>,
    if_none_match: Option<ETagCondition>,
) -> S3Result<Precondition> {
    match (if_match, if_none_match) {
        (None, None) => Ok(Precondition::Always),
        (Some(ETagCondition::Any), None) => Ok(Precondition::IfMatchAny),
        (Some(ETagCondition::ETag(etag)), None) => {
            Ok(Precondition::IfMatch { etag: etag.into_value() })
        }
        (None, Some(ETagCondition::Any)) => Ok(Precondition::IfNoneMatchAny),
        (None, Some(ETagCondition::ETag(_))) => Err(not_implemented("If-None-Match with an ETag")),
        (Some(_), Some(_)) => Err(not_implemented("If-Match together with If-None-Match")),
    }
}

/// An ETag condition out of the headers, for operations whose input has none.
///
/// # Errors
/// `InvalidArgument` where it cannot be read.
pub fn header_condition(headers: &HeaderMap, name: &str) -> S3Result<Option<ETagCondition>> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let condition = ETagCondition::parse_http_header(value.as_bytes());
    condition.map(Some).map_err(|_| invalid_argument(format!("invalid header: {name}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::s3::convert::etag;

    #[test]
    fn write_conditions_that_s3_does_not_have_are_not_implemented() {
        let tag = || Some(ETagCondition::ETag(etag("e")));
        let any = || Some(ETagCondition::Any);
        assert_eq!(precondition(None, None).unwrap(), Precondition::Always);
        assert_eq!(precondition(None, any()).unwrap(), Precondition::IfNoneMatchAny);
        assert_eq!(precondition(tag(), None).unwrap(), Precondition::IfMatch { etag: "e".into() });
        assert!(precondition(None, tag()).is_err());
        assert!(precondition(tag(), any()).is_err());
    }

    #[test]
    fn a_list_of_etags_is_taken_apart() {
        let rows: [(&str, &[&str]); 4] = [
            ("\"a\"", &["a"]),
            ("a-2", &["a-2"]),
            ("\"a\", \"b\"", &["a", "b"]),
            ("\"a\",W/\"b\" , \"c\"", &["a", "b", "c"]),
        ];
        for (header, expected) in rows {
            let condition = ETagCondition::parse_http_header(header.as_bytes()).unwrap();
            let got = conditions(Some(condition), None, None, None).if_match;
            let expected = expected.iter().map(|&t| t.to_owned()).collect();
            assert_eq!(got, Some(TagCondition::OneOf(expected)), "{header}");
        }
    }
}
