//! Conditions on reads and on the source of copies, as S3 evaluates them.
//!
//! Used by the read and copy flows. Plain functions over the row's ETag and time. Conditions on
//! writes are [`Precondition`](crate::actors::metadata::command::Precondition), decided by
//! metadata.
//! Source: RFC 9110 section 13, and the table in the S3 page of GetObject.
//!
//! - `COND-1` where `If-Match` holds, `If-Unmodified-Since` is not looked at; where
//!   `If-None-Match` is given, `If-Modified-Since` is not looked at;
//! - `COND-2` times compare in whole seconds, since that is all that HTTP dates carry.

use crate::types::UnixMillis;

/// An ETag condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagCondition {
    /// `*`.
    Any,
    /// One of these, without quotes.
    OneOf(Vec<String>),
}

impl TagCondition {
    fn matches(&self, etag: &str) -> bool {
        match self {
            TagCondition::Any => true,
            TagCondition::OneOf(tags) => tags.iter().any(|t| t == etag),
        }
    }
}

/// What a read (or the source of a copy) depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// `If-Match`.
    pub if_match: Option<TagCondition>,
    /// `If-None-Match`.
    pub if_none_match: Option<TagCondition>,
    /// `If-Modified-Since`.
    pub if_modified_since: Option<UnixMillis>,
    /// `If-Unmodified-Since`.
    pub if_unmodified_since: Option<UnixMillis>,
}

/// What the conditions say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Pass,
    /// 304 on a read, 412 on a copy.
    NotModified,
    /// 412.
    Failed,
}

/// Evaluates the conditions on an object.
pub fn evaluate(conditions: &Conditions, etag: &str, last_modified_ms: UnixMillis) -> Verdict {
    let modified_after = |since: UnixMillis| last_modified_ms / 1000 > since / 1000;
    match &conditions.if_match {
        Some(tag) if !tag.matches(etag) => return Verdict::Failed,
        Some(_) => {}
        None if conditions.if_unmodified_since.is_some_and(modified_after) => {
            return Verdict::Failed;
        }
        None => {}
    }
    match &conditions.if_none_match {
        Some(tag) if tag.matches(etag) => Verdict::NotModified,
        Some(_) => Verdict::Pass,
        None if conditions.if_modified_since.is_some_and(|since| !modified_after(since)) => {
            Verdict::NotModified
        }
        None => Verdict::Pass,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_combine_as_in_the_table_of_s3() {
        let tag = |t: &str| Some(TagCondition::OneOf(vec![t.into()]));
        let any = || Some(TagCondition::Any);
        let at = 10_500; // ms: the HTTP date of the object is second 10
        use Verdict::*;
        let rows = [
            (None, None, None, None, Pass),
            (tag("e"), None, None, None, Pass),
            (tag("x"), None, None, None, Failed),
            (any(), None, None, None, Pass),
            (None, tag("e"), None, None, NotModified),
            (None, tag("x"), None, None, Pass),
            (None, any(), None, None, NotModified),
            (None, None, Some(10_000), None, NotModified),
            (None, None, Some(9_000), None, Pass),
            (None, None, None, Some(10_000), Pass),
            (None, None, None, Some(9_000), Failed),
            (tag("e"), None, None, Some(9_000), Pass), // COND-1
            (tag("x"), None, None, Some(20_000), Failed),
            (None, tag("e"), Some(9_000), None, NotModified),
            (None, tag("x"), Some(20_000), None, Pass), // COND-1
            (tag("e"), tag("e"), None, None, NotModified),
        ];
        for (if_match, if_none_match, if_modified_since, if_unmodified_since, expected) in rows {
            let conditions =
                Conditions { if_match, if_none_match, if_modified_since, if_unmodified_since };
            assert_eq!(evaluate(&conditions, "e", at), expected, "{conditions:?}");
        }
    }
}
