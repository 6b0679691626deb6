//! What the readers of JSON input take and what they refuse.

use serde::Deserialize;
use serde_json::json;

use super::*;

#[derive(Debug, Deserialize)]
struct Order {
    #[allow(dead_code)]
    name: String,
    size: u32,
    #[serde(default)]
    #[allow(dead_code)]
    inner: Option<Inner>,
}

#[derive(Debug, Deserialize)]
struct Inner {
    #[allow(dead_code)]
    depth: u8,
}

impl Input for Order {
    const LIMIT: u64 = 100;

    fn example() -> Value {
        json!({ "name": "a", "size": 7, "inner": { "depth": 1 } })
    }

    fn check(&self) -> Result<(), ApiError> {
        check_range("size", self.size, 1, 10)
    }
}

#[test]
fn a_refused_body_names_field_reason_and_example() {
    let rows: [(&[u8], u16, &str, &str); 14] = [
        (b"{", 400, "body", r#""name":"a""#),
        (b"", 400, "body", r#""size":7"#),
        (b"[1,", 400, "body", "name"),
        (b"\xff\xfe", 400, "body", "name"),
        (br#"{"name":"a","size":1} x"#, 400, "body", "name"),
        (br#"{"name":5,"size":}"#, 400, "body", "name"),
        (br#"["a",1,null]"#, 422, "body", "name"),
        (b"[]", 422, "body", "name"),
        (b"{}", 422, "name", "\"a\""),
        (br#"{"name":5,"size":1}"#, 422, "name", "\"a\""),
        (br#"{"name":"a","size":-1}"#, 422, "size", "7"),
        (br#"{"name":"a","size":11}"#, 422, "size", "size=10"),
        (br#"{"name":"a","size":1,"inner":{"depth":999}}"#, 422, "inner.depth", "1"),
        (br#"{"name":"a","size":1,"inner":{}}"#, 422, "inner.depth", "1"),
    ];
    for (bytes, code, field, example) in rows {
        let error = parse::<Order>(bytes).unwrap_err();
        let body = String::from_utf8_lossy(bytes);
        assert_eq!((error.code, error.field.as_deref()), (code, Some(field)), "{body}");
        assert!(error.reason.is_some_and(|r| !r.is_empty()), "{body}");
        assert!(error.example.unwrap().contains(example), "{body}");
    }
    assert!(parse::<Order>(&serde_json::to_vec(&Order::example()).unwrap()).is_ok());
}

#[derive(Debug, Deserialize)]
struct Page {
    #[allow(dead_code)]
    bucket: String,
    limit: Option<u32>,
}

impl ParamsInput for Page {
    const EXAMPLE: &'static str = "?bucket=photos&limit=100";

    fn check(&self) -> Result<(), ApiError> {
        check_range("limit", self.limit.unwrap_or(100), 1, 1000)
    }
}

async fn params(query: &str) -> Result<Page, ApiError> {
    let request = http::Request::builder().uri(format!("/x?{query}")).body(()).unwrap();
    let (mut parts, ()) = request.into_parts();
    Params::<Page>::from_request_parts(&mut parts, &()).await.map(|p| p.0)
}

#[tokio::test]
async fn a_refused_query_names_the_parameter() {
    let rows = [
        ("", 422, "bucket"),
        ("bucket=a&limit=x", 400, "limit"),
        ("bucket=a&limit=-1", 400, "limit"),
        ("bucket=a&limit=0", 422, "limit"),
        ("bucket=a&limit=1001", 422, "limit"),
        ("bucket=%FF", 400, "query"),
    ];
    for (query, code, field) in rows {
        let error = params(query).await.unwrap_err();
        assert_eq!((error.code, error.field.as_deref()), (code, Some(field)), "{query}");
        assert!(error.example.is_some_and(|e| !e.is_empty()), "{query}");
    }
    assert_eq!(params("bucket=%F0%9F%90%8B&limit=5").await.unwrap().bucket, "🐋");
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_before_and_while_it_is_read() {
    let body = |n: usize| axum::body::Body::from(vec![b'x'; n]);
    assert_eq!(read(body(0), Some(101), 100).await.unwrap_err().code, 413);
    assert_eq!(read(body(101), None, 100).await.unwrap_err().code, 413);
    assert_eq!(read(body(100), Some(100), 100).await.unwrap().len(), 100);
}

async fn object_path(path: &'static str) -> Result<ObjectPath, u16> {
    use axum::response::IntoResponse;
    use tower::ServiceExt;
    let seen = std::sync::Arc::new(std::sync::Mutex::new(None));
    let keep = seen.clone();
    let take = move |path: ObjectPath| async move {
        *keep.lock().unwrap() = Some(path);
        "ok".into_response()
    };
    let router = axum::Router::new().route("/o/{bucket}/{*key}", axum::routing::get(take));
    let request = http::Request::builder().uri(path).body(axum::body::Body::empty()).unwrap();
    let response = router.oneshot(request).await.unwrap();
    let seen = seen.lock().unwrap().take();
    seen.ok_or(response.status().as_u16())
}

#[tokio::test]
async fn a_key_is_taken_with_raw_and_with_encoded_slashes_byte_for_byte() {
    let rows = [
        ("/o/bucket/a/b", Ok("a/b")),
        ("/o/bucket/a%2Fb", Ok("a/b")),
        ("/o/bucket/a%2F%2Fb/", Ok("a//b/")),
        ("/o/bucket/..%2F../x", Ok("../../x")),
        ("/o/bucket/%2Fabs", Ok("/abs")),
        ("/o/bucket/a+b%20c%25", Ok("a+b c%")),
        ("/o/bucket/%F0%9F%90%8B", Ok("🐋")),
        ("/o/bucket/%FF", Err(400)),
        ("/o/BUCKET/k", Err(422)),
        ("/o/bucket", Err(404)),
    ];
    for (path, expected) in rows {
        let got = object_path(path).await.map(|p| p.key);
        assert_eq!(got, expected.map(str::to_owned), "{path}");
    }
}
