//! How sources are read.

use super::*;

fn read(body: Value) -> Result<Source, (u16, Option<String>)> {
    let input: SourceInput = serde_json::from_value(body).unwrap();
    input.into_source().map_err(|e| (e.code, e.field))
}

#[test]
fn sources_are_read_in_the_words_of_both_generations() {
    let source = read(SourceInput::example()).unwrap();
    assert_eq!((source.kind, source.priority), (SourceKind::S3, 10));
    let first = json!({ "name": "a", "config": { "type": "http", "base_url": "http://h",
        "bucket_name": "b", "timeout": 2_000_000_000u64, "max_retries": 3, "extra_config": {} } });
    let source = read(first).unwrap();
    assert_eq!((source.kind, &*source.bucket), (SourceKind::Http, "b"));
    assert_eq!((source.timeout, source.max_retries), (Span::secs(2), 3));
}

#[test]
fn what_is_wrong_with_a_source_is_named() {
    let with = |config: Value| json!({ "name": "a", "type": "s3", "config": config });
    let rows = [
        (json!({ "type": "s3", "config": {} }), 422, Some("name")),
        (json!({ "name": "a", "config": {} }), 422, Some("type")),
        (json!({ "name": "a", "type": "gcs", "config": {} }), 501, None),
        (with(json!({})), 422, Some("config")),
        (with(json!({ "endpoint": "h" })), 422, Some("config.endpoint")),
        (with(json!({ "endpoint": "http://h", "colour": 1 })), 422, Some("config.colour")),
        (
            with(json!({ "endpoint": "http://h", "access_key": "k" })),
            422,
            Some("config.secret_key"),
        ),
    ];
    for (body, code, field) in rows {
        assert_eq!(read(body.clone()), Err((code, field.map(str::to_owned))), "{body}");
    }
}
