//! A source with faults: an HTTP/1.1 server on loopback that does with each path what it names.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What the server does for one key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Does {
    /// Gives the body with its length.
    Good,
    /// The same, with its MD5 as `Content-MD5`.
    Summed,
    /// Gives it in chunks.
    Chunked,
    /// 404.
    Missing,
    /// This status.
    Status(u16),
    /// 503 for so many requests, then the body.
    FailsFirst(usize),
    /// Says nothing for ever.
    Silent,
    /// Declares the length, gives half, then nothing for ever.
    Stalls,
    /// Declares the length, gives all but the last byte, and closes.
    Truncated,
    /// Chunks without the last one.
    ChunkedTruncated,
    /// Neither length nor chunks: ends by closing, after half of it.
    Unframed,
    /// Declares the MD5 of other bytes.
    WrongSum,
    /// Gives a wrong byte at the end, and declares nothing.
    WrongByte,
}

/// The body of this size.
pub fn body(size: usize) -> Vec<u8> {
    let mut all = (0..251).collect::<Vec<u8>>().repeat(size / 251 + 1);
    all.truncate(size);
    all
}

/// The running server.
pub struct Upstream {
    /// `http://127.0.0.1:port`
    pub url: String,
    /// What it does.
    pub does: Does,
    asked: Arc<Mutex<HashMap<String, usize>>>,
    _task: tokio_util::task::AbortOnDropHandle<()>,
}

impl Upstream {
    /// Serves `body(size)` under every key, with these manners.
    pub async fn start(does: Does, size: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::<Mutex<HashMap<String, usize>>>::default();
        let counts = asked.clone();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, does, size, counts.clone()));
            }
        });
        Upstream { url, does, asked, _task: tokio_util::task::AbortOnDropHandle::new(task) }
    }

    /// How often a path was asked for.
    pub fn asked(&self, path: &str) -> usize {
        self.asked.lock().unwrap().get(path).copied().unwrap_or(0)
    }
}

async fn serve(
    mut stream: TcpStream,
    does: Does,
    size: usize,
    counts: Arc<Mutex<HashMap<String, usize>>>,
) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut words = head.split(' ');
    let (method, path) = (words.next()?, words.next()?.split('?').next()?);
    let number = {
        let mut counts = counts.lock().unwrap();
        let count = counts.entry(path.to_owned()).or_default();
        *count += 1;
        *count
    };
    let answer = answer(does, size, number);
    stream.write_all(answer.head.as_bytes()).await.ok()?;
    if method != "HEAD" {
        stream.write_all(&answer.body).await.ok()?;
    }
    if answer.hangs {
        tokio::time::sleep(Duration::from_secs(600)).await;
    }
    stream.shutdown().await.ok()
}

struct Answer {
    head: String,
    body: Vec<u8>,
    hangs: bool,
}

fn answer(does: Does, size: usize, number: usize) -> Answer {
    let mut all = body(size);
    let sum = |bytes: &[u8]| format!("Content-MD5: {:x}\r\n", md5::compute(bytes));
    let chunk = |bytes: &[u8]| match bytes.len() {
        0 => Vec::new(), // an empty chunk is the last one
        len => [format!("{len:x}\r\n").as_bytes(), bytes, b"\r\n"].concat(),
    };
    let plain = |status: u16, more: &str, body: Vec<u8>| {
        let head = format!("HTTP/1.1 {status} X\r\n{more}Connection: close\r\n\r\n");
        Answer { head, body, hangs: false }
    };
    let length = format!("Content-Length: {size}\r\nContent-Type: text/x-test\r\n");
    match does {
        Does::Missing => plain(404, "Content-Length: 0\r\n", Vec::new()),
        Does::Status(status) => plain(status, "Content-Length: 0\r\n", Vec::new()),
        Does::FailsFirst(n) if number <= n => plain(503, "Content-Length: 0\r\n", Vec::new()),
        Does::Good | Does::FailsFirst(_) => plain(200, &length, all),
        Does::Summed => plain(200, &format!("{length}{}", sum(&all)), all),
        Does::WrongSum => plain(200, &format!("{length}{}", sum(b"other")), all),
        Does::WrongByte => {
            if let Some(last) = all.last_mut() {
                *last ^= 1;
            }
            plain(200, &length, all)
        }
        Does::Truncated => {
            all.pop();
            plain(200, &length, all)
        }
        Does::Chunked => {
            let chunks = [chunk(&all[..size / 2]), chunk(&all[size / 2..]), b"0\r\n\r\n".to_vec()];
            plain(200, "Transfer-Encoding: chunked\r\n", chunks.concat())
        }
        Does::ChunkedTruncated => {
            plain(200, "Transfer-Encoding: chunked\r\n", chunk(&all[..size / 2]))
        }
        Does::Unframed => plain(200, "", all[..size / 2].to_vec()),
        Does::Silent => Answer { head: String::new(), body: Vec::new(), hangs: true },
        Does::Stalls => Answer { hangs: true, ..plain(200, &length, all[..size / 2].to_vec()) },
    }
}
