//! Clients that read and write the same few keys through all edges, and what they were told.
//!
//! - `CLIENT-1` every body is unique, so that its MD5, the ETag, says which write it is of;
//! - `CLIENT-2` a write that got 5xx, 409, 429, or no answer is of unknown outcome; one that was never
//!   sent is left out, and so is every read without an answer;
//! - `CLIENT-3` an answer that no right server gives (another status, a body that is not of its ETag)
//!   is taken down as wrong.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::{Method, StatusCode};

use crate::history::{Act, Operation, Value, When};
use crate::s3::{Answer, S3, listed};

pub const BUCKETS: [&str; 2] = ["nemesis-a", "nemesis-b"];
/// Of no history: what only asks whether an edge serves.
pub const PROBES: &str = "nemesis-probes";
const KEYS: usize = 20;
/// Values from here on were written by nobody: bytes that a read found all the same.
const FOREIGN: Value = 1 << 60;
/// A client's pause between two requests.
const PAUSE: std::ops::Range<u64> = 5..60;

/// What all clients know and took down.
pub struct Record {
    begun: Instant,
    next: AtomicU64,
    values: Mutex<HashMap<String, Value>>,
    /// The ETag that was last seen, by bucket and key.
    seen: Mutex<HashMap<String, String>>,
    history: Mutex<Vec<Operation>>,
    wrong: Mutex<Vec<String>>,
    pub stop: AtomicBool,
}

impl Record {
    pub fn new() -> Arc<Record> {
        Arc::new(Record {
            begun: Instant::now(),
            next: AtomicU64::new(1),
            values: Mutex::default(),
            seen: Mutex::default(),
            history: Mutex::default(),
            wrong: Mutex::default(),
            stop: AtomicBool::new(false),
        })
    }

    pub fn history(&self) -> Vec<Operation> {
        self.history.lock().unwrap().clone()
    }

    pub fn wrong(&self) -> Vec<String> {
        self.wrong.lock().unwrap().clone()
    }

    fn now(&self) -> u64 {
        self.begun.elapsed().as_nanos() as u64
    }

    /// A new value with its body (CLIENT-1), small or, now and then, of several blocks.
    fn body(&self, dice: &mut StdRng) -> (Value, Bytes) {
        let value = self.next.fetch_add(1, Ordering::Relaxed);
        let len = match dice.random_ratio(1, 6) {
            true => dice.random_range(64 * 1024 + 1..200_000),
            false => dice.random_range(16..4096),
        };
        let mut content = StdRng::seed_from_u64(value);
        let mut bytes = value.to_be_bytes().to_vec();
        bytes.extend((8..len).map(|_| content.random::<u8>()));
        let etag = format!("{:x}", md5::compute(&bytes));
        self.values.lock().unwrap().insert(etag, value);
        (value, bytes.into())
    }

    fn value(&self, etag: &str) -> Value {
        let mut values = self.values.lock().unwrap();
        let foreign = FOREIGN + values.len() as u64;
        *values.entry(etag.to_owned()).or_insert(foreign)
    }

    fn saw(&self, bucket: &str, key: &str, etag: &str) -> Value {
        self.seen.lock().unwrap().insert(format!("{bucket}/{key}"), etag.to_owned());
        self.value(etag)
    }

    fn complain(&self, text: String) {
        self.wrong.lock().unwrap().push(text);
    }
}

/// One client.
pub struct Client {
    number: u32,
    edges: Vec<S3>,
    at: usize,
    dice: StdRng,
    record: Arc<Record>,
}

impl Client {
    pub fn new(number: u32, edges: &[String], seed: u64, record: Arc<Record>) -> Client {
        let edges: Vec<S3> = edges.iter().map(|url| S3::new(url)).collect();
        let dice = StdRng::seed_from_u64(seed ^ u64::from(number) << 32);
        Client { number, at: number as usize % edges.len(), edges, dice, record }
    }

    /// Asks until it is to stop.
    pub async fn run(mut self) {
        while !self.stops().await {
            self.step().await;
        }
    }

    /// Only overwrites, until it is to stop.
    pub async fn write(mut self) {
        while !self.stops().await {
            let (bucket, key) = self.any_key();
            self.put(bucket, &key, When::Always, None).await;
        }
    }

    /// A pause; then whether it is to stop.
    async fn stops(&mut self) -> bool {
        let pause = self.dice.random_range(PAUSE);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        self.record.stop.load(Ordering::Relaxed)
    }

    fn any_key(&mut self) -> (&'static str, String) {
        let bucket = BUCKETS[self.dice.random_range(0..BUCKETS.len())];
        (bucket, format!("k{:02}", self.dice.random_range(0..KEYS)))
    }

    async fn step(&mut self) {
        let (bucket, key) = self.any_key();
        match self.dice.random_range(0..100) {
            0..26 => self.put(bucket, &key, When::Always, None).await,
            26..34 => self.create(bucket, &key).await,
            34..46 => self.update(bucket, &key).await,
            46..56 => self.delete(bucket, &key).await,
            56..82 => self.read(Method::GET, bucket, &key).await,
            82..94 => self.read(Method::HEAD, bucket, &key).await,
            _ => self.list(bucket).await,
        }
    }

    fn edge(&self) -> S3 {
        self.edges[self.at].clone()
    }

    /// After trouble with an edge, the next one.
    fn turn(&mut self) {
        self.at = (self.at + 1) % self.edges.len();
    }

    fn note(&self, begun: u64, ended: Option<u64>, act: Act) {
        let operation = Operation { client: self.number, begun, ended, act };
        self.record.history.lock().unwrap().push(operation);
    }

    async fn create(&mut self, bucket: &str, key: &str) {
        self.put(bucket, key, When::Absent, Some(("if-none-match", "*".to_owned()))).await;
    }

    async fn update(&mut self, bucket: &str, key: &str) {
        let known = self.record.seen.lock().unwrap().get(&format!("{bucket}/{key}")).cloned();
        let Some(etag) = known else { return };
        let when = When::Holds(self.record.value(&etag));
        self.put(bucket, key, when, Some(("if-match", format!("\"{etag}\"")))).await;
    }

    async fn put(
        &mut self,
        bucket: &str,
        key: &str,
        when: When,
        condition: Option<(&'static str, String)>,
    ) {
        let (value, body) = self.record.body(&mut self.dice);
        let sent = format!("{:x}", md5::compute(&body));
        let begun = self.record.now();
        let answer = self.edge().put(bucket, key, body, condition).await;
        let ended = self.record.now();
        let put = |refused| Act::Put { key: format!("{bucket}/{key}"), value, when, refused };
        match answer {
            Answer::NotSent => self.turn(),
            Answer::Told { status: StatusCode::OK, etag, .. } => {
                if etag.as_ref() != Some(&sent) {
                    self.record.complain(format!("PUT {bucket}/{key}: ETag {etag:?}, not {sent}"));
                }
                self.record.saw(bucket, key, &sent);
                self.note(begun, Some(ended), put(false));
            }
            Answer::Told { status, body, .. } if refuses(status, &body, when) => {
                self.note(begun, Some(ended), put(true));
            }
            other => {
                self.unknown(&format!("PUT {bucket}/{key}"), &other);
                self.note(begun, None, put(false));
            }
        }
    }

    async fn delete(&mut self, bucket: &str, key: &str) {
        let begun = self.record.now();
        let answer = self.edge().delete(bucket, key).await;
        let ended = self.record.now();
        let act = Act::Delete { key: format!("{bucket}/{key}") };
        match answer {
            Answer::NotSent => self.turn(),
            Answer::Told { status: StatusCode::NO_CONTENT, .. } => {
                self.note(begun, Some(ended), act);
            }
            other => {
                self.unknown(&format!("DELETE {bucket}/{key}"), &other);
                self.note(begun, None, act);
            }
        }
    }

    async fn read(&mut self, method: Method, bucket: &str, key: &str) {
        let begun = self.record.now();
        let answer = self.edge().read(method.clone(), bucket, key).await;
        let ended = self.record.now();
        let what = format!("{method} {bucket}/{key}");
        let saw = match &answer {
            Answer::Told { status: StatusCode::OK, etag: Some(etag), body } => {
                if method == Method::GET && format!("{:x}", md5::compute(body)) != *etag {
                    self.record.complain(format!("{what}: {} bytes not of {etag}", body.len()));
                }
                Some(self.record.saw(bucket, key, etag))
            }
            Answer::Told { status: StatusCode::NOT_FOUND, body, .. } if !no_bucket(body) => None,
            other => return self.unknown(&what, other),
        };
        self.note(begun, Some(ended), Act::Read { key: format!("{bucket}/{key}"), saw });
    }

    async fn list(&mut self, bucket: &str) {
        let begun = self.record.now();
        let answer = self.edge().list(bucket).await;
        let ended = self.record.now();
        let rows = match &answer {
            Answer::Told { status: StatusCode::OK, body, .. } => listed(body),
            other => return self.unknown(&format!("LIST {bucket}"), other),
        };
        let Some(rows) = rows else {
            return self.record.complain(format!("LIST {bucket}: no whole listing"));
        };
        let row =
            |(key, etag): (String, String)| (format!("{bucket}/{key}"), self.record.value(&etag));
        let saw = rows.into_iter().map(row).collect();
        let (from, to) = (format!("{bucket}/"), format!("{bucket}0")); // '0' follows '/'
        self.note(begun, Some(ended), Act::List { from, to, saw });
    }

    /// CLIENT-2, CLIENT-3.
    fn unknown(&mut self, what: &str, answer: &Answer) {
        if let Answer::Told { status, body, .. } = answer {
            let usual = status.is_server_error()
                || matches!(*status, StatusCode::CONFLICT | StatusCode::TOO_MANY_REQUESTS);
            if !usual {
                let text = String::from_utf8_lossy(&body[..body.len().min(300)]).into_owned();
                self.record.complain(format!("{what}: {status} {text}"));
            }
        }
        self.turn();
    }

    /// Reads every key through every edge: what is there at the end. The keys that no edge told.
    pub async fn read_all(&mut self) -> Vec<String> {
        let mut untold = Vec::new();
        for edge in 0..self.edges.len() {
            for (bucket, n) in BUCKETS.iter().flat_map(|b| (0..KEYS).map(move |n| (b, n))) {
                self.at = edge;
                let before = self.record.history.lock().unwrap().len();
                let key = format!("k{n:02}");
                self.read(Method::GET, bucket, &key).await;
                if self.record.history.lock().unwrap().len() == before {
                    untold.push(format!("{bucket}/{key} through edge {edge}"));
                }
            }
        }
        untold
    }
}

/// A known refusal: the condition did not hold. `If-Match` of a key that is not there is 404.
fn refuses(status: StatusCode, body: &[u8], when: When) -> bool {
    match status {
        StatusCode::PRECONDITION_FAILED => when != When::Always,
        StatusCode::NOT_FOUND => matches!(when, When::Holds(_)) && !no_bucket(body),
        _ => false,
    }
}

fn no_bucket(body: &[u8]) -> bool {
    String::from_utf8_lossy(body).contains("NoSuchBucket")
}
