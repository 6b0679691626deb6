//! Both generations' bodies of the metadata API's writes, and what is refused.

use serde_json::json;

use super::*;
use crate::actors::metadata::model::Versioning;
use crate::http::json::input::parse;

const MD5: &str = "900150983cd24fb0d6963f7d28e17f72";

fn bucket(fallback: bool) -> BucketInfo {
    let (name, owner) = ("photos".into(), "mocks3".into());
    BucketInfo { name, owner, created_ms: 0, versioning: Versioning::Off, fallback }
}

fn object() -> ObjectInfo {
    let head = ObjectHead { content_type: Some("text/plain".into()), ..ObjectHead::default() };
    ObjectInfo {
        row: 7,
        version_id: None,
        latest: true,
        size: 3,
        etag: MD5.into(),
        last_modified_ms: 0,
        owner: "mocks3".into(),
        storage_class: String::new(),
        head,
        tags: vec![Tag { key: "a".into(), value: "1".into() }],
        checksum: None,
        parts_count: 0,
    }
}

fn planned(body: serde_json::Value, fallback: bool, there: bool) -> Result<Plan, (u16, String)> {
    let row: RowInput = parse(body.to_string().as_bytes()).unwrap();
    let object = there.then(object);
    plan(&row, &bucket(fallback), object.as_ref())
        .map_err(|e| (e.code, e.field.unwrap_or_default()))
}

#[test]
fn a_row_of_an_object_changes_only_what_is_no_bytes() {
    let same = json!({ "size": 3, "md5_hash": MD5, "etag": format!("\"{MD5}\""),
                       "content_type": "text/plain", "tags": { "a": "1" }, "version": 4,
                       "created_at": "2020-01-01T00:00:00Z", "status": "active" });
    assert_eq!(planned(same, false, true), Ok(Plan::Keep));
    let Ok(Plan::Change { head: Some(head), tags: None }) =
        planned(json!({ "content_type": "image/png" }), false, true)
    else {
        panic!("the content type changes and nothing else");
    };
    assert_eq!(head.content_type.as_deref(), Some("image/png"));
    let headers = json!({ "headers": { "cache-control": "no-cache" }, "tags": {} });
    let Ok(Plan::Change { head: Some(head), tags: Some(tags) }) = planned(headers, false, true)
    else {
        panic!("headers and tags change");
    };
    assert_eq!(head.content_type.as_deref(), Some("text/plain"), "it was not given");
    assert!(head.cache_control.is_some() && tags.is_empty());
    let rows = [
        (json!({ "size": 4 }), (409, "size")),
        (json!({ "md5_hash": EMPTY_MD5 }), (409, "md5_hash")),
        (json!({ "etag": "x" }), (409, "etag")),
        (json!({ "headers": { "a b": "c" } }), (422, "headers.a b")),
    ];
    for (body, (code, field)) in rows {
        let text = body.to_string();
        assert_eq!(planned(body, false, true), Err((code, field.to_owned())), "{text}");
    }
}

#[test]
fn a_row_without_object_is_made_only_where_something_can_serve_it() {
    let made = |body, fallback| match planned(body, fallback, false) {
        Ok(Plan::Make { size, etag, .. }) => Ok((size, etag)),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error),
    };
    let (md5, size) = (|| Err((422, "md5_hash".to_owned())), || Err((422, "size".to_owned())));
    let rows = [
        (json!({}), false, Ok((0, EMPTY_MD5.to_owned()))),
        (json!({ "size": 0, "md5_hash": EMPTY_MD5 }), false, Ok((0, EMPTY_MD5.to_owned()))),
        (json!({ "size": 0, "md5_hash": MD5 }), false, md5()),
        (json!({ "size": 3, "md5_hash": MD5 }), false, size()),
        (json!({ "size": 3 }), false, size()),
        (json!({ "size": 3 }), true, md5()),
        (json!({ "size": 3, "md5_hash": MD5.to_uppercase() }), true, Ok((3, MD5.to_owned()))),
    ];
    for (body, fallback, expected) in rows {
        let text = format!("{body} fallback {fallback}");
        assert_eq!(made(body, fallback), expected, "{text}");
    }
}

#[test]
fn states_and_hashes_that_cannot_be_set_are_refused() {
    for (body, field) in [
        (json!({ "status": "deleted" }), "status"),
        (json!({ "md5_hash": "abc" }), "md5_hash"),
        (json!({ "size": -1 }), "size"),
    ] {
        let error = parse::<RowInput>(body.to_string().as_bytes()).unwrap_err();
        assert_eq!((error.code, error.field.as_deref()), (422, Some(field)), "{body}");
    }
    let unnamed: RowInput = parse(b"{}").unwrap();
    assert_eq!(unnamed.check_names().unwrap_err().field.as_deref(), Some("bucket"));
}
