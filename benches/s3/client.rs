//! A small S3 client: one HTTP/1.1 connection, SigV4 in headers, answers checked.
//!
//! The same requests go to every subject.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use tokio::net::TcpStream;

/// No answer takes longer than this.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
const REGION: &str = "us-east-1";

/// How bodies enter the signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// `UNSIGNED-PAYLOAD`.
    Unsigned,
    /// Their SHA-256.
    Signed,
}

impl FromStr for Payload {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "unsigned" => Ok(Payload::Unsigned),
            "signed" => Ok(Payload::Signed),
            _ => Err("expected unsigned or signed".into()),
        }
    }
}

/// Where to, and as whom.
#[derive(Clone, Debug)]
pub struct Target {
    /// Address of the S3 endpoint.
    pub address: SocketAddr,
    /// Access key.
    pub access_key: &'static str,
    /// Secret key.
    pub secret_key: &'static str,
    /// How bodies are signed.
    pub payload: Payload,
}

/// What an answer must be (BENCH-1).
#[derive(Clone, Debug)]
pub enum Expect {
    /// Success.
    Success,
    /// These very bytes.
    Body(Bytes),
    /// So many times this text.
    Entries(&'static str, usize),
}

/// One request.
#[derive(Clone, Debug)]
pub struct Op {
    /// Method.
    pub method: Method,
    /// Path, encoded.
    pub path: String,
    /// Query, encoded and sorted by name.
    pub query: String,
    /// Body.
    pub body: Bytes,
    /// What must come back.
    pub expect: Expect,
}

impl Op {
    /// A request without query whose success is enough.
    pub fn new(method: Method, path: String, body: Bytes) -> Op {
        Op { method, path, query: String::new(), body, expect: Expect::Success }
    }
}

/// One connection.
pub struct Client {
    target: Target,
    host: String,
    sender: SendRequest<Full<Bytes>>,
}

impl Client {
    /// Connects.
    pub async fn connect(target: &Target) -> anyhow::Result<Client> {
        let stream = TcpStream::connect(target.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Client { target: target.clone(), host: target.address.to_string(), sender })
    }

    /// Does one operation; the time until its last byte was here.
    pub async fn run(&mut self, op: &Op) -> anyhow::Result<Duration> {
        let request = self.request(op)?;
        let begun = Instant::now();
        let exchange = tokio::time::timeout(ANSWER_LIMIT, self.exchange(request));
        let (status, pieces) = exchange.await.context("no answer")??;
        let took = begun.elapsed();
        if !status.is_success() {
            let text = pieces.concat();
            let text = String::from_utf8_lossy(&text[..text.len().min(500)]).into_owned();
            bail!("{} {}: {status} {text}", op.method, op.path);
        }
        match &op.expect {
            Expect::Success => {}
            Expect::Body(expected) => ensure!(is_same(expected, &pieces), "{}: bytes", op.path),
            Expect::Entries(mark, count) => {
                let found = count_of(&pieces.concat(), mark.as_bytes());
                ensure!(found == *count, "{}?{}: {found} entries", op.path, op.query);
            }
        }
        Ok(took)
    }

    /// Does one operation and gives its answer as text.
    pub async fn text(&mut self, op: &Op) -> anyhow::Result<String> {
        let (status, pieces) = self.exchange(self.request(op)?).await?;
        ensure!(status.is_success(), "{} {}: {status}", op.method, op.path);
        Ok(String::from_utf8(pieces.concat())?)
    }

    async fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> anyhow::Result<(http::StatusCode, Vec<Bytes>)> {
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let (status, mut body) = (response.status(), response.into_body());
        let mut pieces = Vec::new();
        while let Some(frame) = body.frame().await {
            pieces.extend(frame?.into_data().ok());
        }
        Ok((status, pieces))
    }

    fn request(&self, op: &Op) -> anyhow::Result<Request<Full<Bytes>>> {
        let stamp = stamp(OffsetDateTime::now_utc());
        let hash = match self.target.payload {
            Payload::Unsigned => "UNSIGNED-PAYLOAD".to_owned(),
            Payload::Signed => hex::encode(Sha256::digest(&op.body)),
        };
        let uri = match op.query.as_str() {
            "" => op.path.clone(),
            query => format!("{}?{query}", op.path),
        };
        let request = Request::builder()
            .method(&op.method)
            .uri(uri)
            .header("host", &self.host)
            .header("authorization", self.authorization(op, &stamp, &hash))
            .header("x-amz-content-sha256", hash)
            .header("x-amz-date", stamp);
        Ok(request.body(Full::new(op.body.clone()))?)
    }

    /// Source: the S3 API reference, "Authenticating Requests: Using the Authorization Header".
    fn authorization(&self, op: &Op, stamp: &str, hash: &str) -> String {
        let names = "host;x-amz-content-sha256;x-amz-date";
        let canonical = format!(
            "{}\n{}\n{}\nhost:{}\nx-amz-content-sha256:{hash}\nx-amz-date:{stamp}\n\n{names}\n{hash}",
            op.method, op.path, op.query, self.host
        );
        let day = &stamp[..8];
        let scope = format!("{day}/{REGION}/s3/aws4_request");
        let digest = hex::encode(Sha256::digest(canonical));
        let to_sign = format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}");
        let mut key = format!("AWS4{}", self.target.secret_key).into_bytes();
        for part in [day, REGION, "s3", "aws4_request", &to_sign] {
            key = mac(&key, part);
        }
        let (access_key, signature) = (self.target.access_key, hex::encode(key));
        format!(
            "AWS4-HMAC-SHA256 Credential={access_key}/{scope}, SignedHeaders={names}, \
             Signature={signature}"
        )
    }
}

fn stamp(at: OffsetDateTime) -> String {
    let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
    let (hour, minute, second) = (at.hour(), at.minute(), at.second());
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn is_same(expected: &[u8], pieces: &[Bytes]) -> bool {
    let mut rest = expected;
    for piece in pieces {
        match rest.split_at_checked(piece.len()) {
            Some((head, tail)) if head == piece => rest = tail,
            _ => return false,
        }
    }
    rest.is_empty()
}

fn count_of(text: &[u8], mark: &[u8]) -> usize {
    text.windows(mark.len()).filter(|window| *window == mark).count()
}
