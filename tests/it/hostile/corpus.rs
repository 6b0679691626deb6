//! Good requests to begin with, as raw bytes.

use std::net::SocketAddr;

use reqwest::Url;
use rusty_s3::S3Action;
use serde_json::Value;

use crate::node::{S3, SIGNED};

fn raw(method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("{method} {target} HTTP/1.1\r\nhost: 127.0.0.1\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    if !body.is_empty() || ["PUT", "POST"].contains(&method) {
        head += &format!("content-length: {}\r\n", body.len());
    }
    [head.as_bytes(), b"\r\n", body].concat()
}

/// Every operation of a JSON API with the example that its own description gives.
pub async fn json(address: SocketAddr) -> Vec<Vec<u8>> {
    let document = reqwest::get(format!("http://{address}/openapi.json")).await.unwrap();
    let document: Value = serde_json::from_str(&document.text().await.unwrap()).unwrap();
    let mut requests = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            requests.push(example(path, &method.to_uppercase(), operation));
        }
    }
    assert!(requests.len() > 3, "{address} describes only {} operations", requests.len());
    requests
}

fn example(path: &str, method: &str, operation: &Value) -> Vec<u8> {
    let (mut target, mut query) = (path.to_owned(), Vec::new());
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        let name = parameter["name"].as_str().unwrap();
        let value = match &parameter["example"] {
            Value::String(text) => text.replace(' ', "%20"),
            other => other.to_string(),
        };
        match parameter["in"].as_str() {
            Some("path") => target = target.replace(&format!("{{{name}}}"), &value),
            Some("query") => query.push(format!("{name}={value}")),
            _ => {}
        }
    }
    if !query.is_empty() {
        target += &format!("?{}", query.join("&"));
    }
    let contents = operation["requestBody"]["content"].as_object();
    let Some((kind, content)) = contents.and_then(|c| c.iter().next()) else {
        return raw(method, &target, &[], b"");
    };
    let body = match &content["example"] {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    };
    raw(method, &target, &[("content-type", kind)], body.as_bytes())
}

/// Requests to the S3 edge: presigned, with a signature that is not right, and unsigned ones, which
/// get somewhere only where they are allowed.
pub fn s3(s3: &S3, anonymous: bool) -> Vec<Vec<u8>> {
    let mut requests = presigned(s3);
    requests.extend(signed_by_header());
    if anonymous {
        requests.extend(unsigned());
    }
    requests
}

fn presigned(s3: &S3) -> Vec<Vec<u8>> {
    let (bucket, user) = (&s3.bucket, &s3.credentials);
    let host = bucket.base_url().host_str().unwrap().to_owned();
    let host = format!("{host}:{}", bucket.base_url().port().unwrap());
    let request = |method: &str, url: Url, headers: &[(&str, &str)], body: &[u8]| {
        let target = format!("{}?{}", url.path(), url.query().unwrap_or_default());
        let bytes = raw(method, &target, headers, body);
        let text = String::from_utf8_lossy(&bytes).replacen(
            "host: 127.0.0.1",
            &format!("host: {host}"),
            1,
        );
        text.into_bytes()
    };
    let key = |n: u32| format!("a key/{n}");
    let xml = [("content-type", "application/xml"), ("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==")];
    let delete = b"<Delete><Object><Key>a</Key></Object><Object><Key>b</Key></Object></Delete>";
    let parts =
        b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>\"x\"</ETag></Part>\
        </CompleteMultipartUpload>";
    let mut post = bucket.list_objects_v2(Some(user));
    post.query_mut().insert("delimiter", "/");
    vec![
        request("PUT", bucket.create_bucket(user).sign(SIGNED), &[], b""),
        request("PUT", bucket.put_object(Some(user), &key(1)).sign(SIGNED), &PUT_HEADERS, b"bytes"),
        request(
            "PUT",
            bucket.put_object(Some(user), &key(2)).sign(SIGNED),
            &[
                ("x-amz-copy-source", "/fuzz/a%20key/1?versionId=null"),
                ("x-amz-metadata-directive", "COPY"),
            ],
            b"",
        ),
        request("GET", bucket.get_object(Some(user), &key(1)).sign(SIGNED), &GET_HEADERS, b""),
        request("HEAD", bucket.head_object(Some(user), &key(1)).sign(SIGNED), &GET_HEADERS, b""),
        request("DELETE", bucket.delete_object(Some(user), &key(3)).sign(SIGNED), &[], b""),
        request("GET", bucket.list_objects_v2(Some(user)).sign(SIGNED), &[], b""),
        request("GET", post.sign(SIGNED), &[], b""),
        request(
            "POST",
            bucket.create_multipart_upload(Some(user), &key(4)).sign(SIGNED),
            &PUT_HEADERS,
            b"",
        ),
        request("PUT", bucket.upload_part(Some(user), &key(4), 1, "x").sign(SIGNED), &[], b"part"),
        request(
            "POST",
            bucket
                .complete_multipart_upload(Some(user), &key(4), "x", ["e"].into_iter())
                .sign(SIGNED),
            &xml,
            parts,
        ),
        request(
            "DELETE",
            bucket.abort_multipart_upload(Some(user), &key(4), "x").sign(SIGNED),
            &[],
            b"",
        ),
        request("POST", bucket.base_url().join("/fuzz?delete").unwrap(), &xml, delete),
    ]
}

const PUT_HEADERS: [(&str, &str); 8] = [
    ("content-type", "text/plain; charset=utf-8"),
    ("cache-control", "no-cache"),
    ("x-amz-meta-a", "b"),
    ("x-amz-tagging", "k=v&k2=v%202"),
    ("x-amz-checksum-crc32", "AAAAAA=="),
    ("x-amz-sdk-checksum-algorithm", "CRC32"),
    ("if-none-match", "*"),
    ("x-amz-storage-class", "STANDARD"),
];
const GET_HEADERS: [(&str, &str); 4] = [
    ("range", "bytes=1-2"),
    ("if-match", "\"x\""),
    ("if-modified-since", "Wed, 21 Oct 2015 07:28:00 GMT"),
    ("x-amz-checksum-mode", "ENABLED"),
];

/// Everything that reads a signature and what comes with it.
fn signed_by_header() -> Vec<Vec<u8>> {
    let signed = "AWS4-HMAC-SHA256 Credential=mocks3/20261123/us-east-1/s3/aws4_request, \
        SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature=00ff";
    let chunked = [
        ("authorization", signed),
        ("x-amz-date", "20261123T000000Z"),
        ("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"),
        ("content-encoding", "aws-chunked"),
        ("x-amz-decoded-content-length", "5"),
        ("x-amz-trailer", "x-amz-checksum-crc32"),
    ];
    let body = b"5;chunk-signature=00\r\nbytes\r\n0;chunk-signature=00\r\n\
        x-amz-checksum-crc32:AAAAAA==\r\nx-amz-trailer-signature:00\r\n\r\n";
    let form = b"--b\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\nk\r\n--b\r\n\
        Content-Disposition: form-data; name=\"policy\"\r\n\r\ne30=\r\n--b\r\n\
        Content-Disposition: form-data; name=\"x-amz-credential\"\r\n\r\n\
        mocks3/20261123/us-east-1/s3/aws4_request\r\n--b\r\n\
        Content-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\nbytes\r\n--b--\r\n";
    let multipart = [("content-type", "multipart/form-data; boundary=b")];
    vec![
        raw("PUT", "/fuzz/chunked", &chunked, body),
        raw("GET", "/fuzz/k?versions&prefix=a&max-keys=2", &chunked[..3], b""),
        raw("POST", "/fuzz", &multipart, form),
        raw(
            "OPTIONS",
            "/fuzz/k",
            &[("origin", "http://a"), ("access-control-request-method", "PUT")],
            b"",
        ),
    ]
}

/// What only an anonymous user may send without a signature: all of it reaches the operations.
fn unsigned() -> Vec<Vec<u8>> {
    let tags = b"<Tagging><TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet></Tagging>";
    let cors = b"<CORSConfiguration><CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET\
        </AllowedMethod><MaxAgeSeconds>5</MaxAgeSeconds></CORSRule></CORSConfiguration>";
    let versioning = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    let parts =
        b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>\"x\"</ETag></Part>\
        </CompleteMultipartUpload>";
    let unsigned = [
        ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
        ("content-encoding", "aws-chunked"),
        ("x-amz-decoded-content-length", "5"),
        ("x-amz-trailer", "x-amz-checksum-crc32"),
    ];
    let chunks = b"5\r\nbytes\r\n0\r\nx-amz-checksum-crc32:l3ySSg==\r\n\r\n";
    let copy = [("x-amz-copy-source", "fuzz/k"), ("x-amz-copy-source-range", "bytes=0-3")];
    vec![
        raw("PUT", "/fuzz", &[], b""),
        raw("PUT", "/fuzz/k", &PUT_HEADERS[..4], b"some bytes"),
        raw("PUT", "/fuzz/chunked", &unsigned, chunks),
        raw("PUT", "/fuzz/copy", &copy[..1], b""),
        raw("GET", "/fuzz/k?response-content-type=a%2Fb&partNumber=1", &GET_HEADERS[..1], b""),
        raw(
            "GET",
            "/fuzz?list-type=2&max-keys=3&prefix=a&delimiter=%2F&encoding-type=url",
            &[],
            b"",
        ),
        raw("GET", "/fuzz?list-type=2&continuation-token=AAAA&start-after=b", &[], b""),
        raw("GET", "/fuzz?versions&key-marker=a&version-id-marker=b&max-keys=4", &[], b""),
        raw("GET", "/fuzz?uploads&key-marker=a&upload-id-marker=b&max-uploads=4", &[], b""),
        raw("POST", "/fuzz/m?uploads", &[], b""),
        raw("PUT", "/fuzz/m?partNumber=1&uploadId=x", &[], b"part"),
        raw("PUT", "/fuzz/m?partNumber=2&uploadId=x", &copy, b""),
        raw("GET", "/fuzz/m?uploadId=x&max-parts=2&part-number-marker=1", &[], b""),
        raw("POST", "/fuzz/m?uploadId=x", &[], parts),
        raw("PUT", "/fuzz/k?tagging", &[], tags),
        raw("PUT", "/fuzz?cors", &[], cors),
        raw("PUT", "/fuzz?versioning", &[], versioning),
        raw("GET", "/fuzz?location", &[], b""),
        raw("DELETE", "/fuzz/k?versionId=null", &[], b""),
        raw("POST", "/fuzz?delete", &[], b"<Delete><Object><Key>k</Key></Object></Delete>"),
        raw("GET", "/", &[], b""),
    ]
}
