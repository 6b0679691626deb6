//! Finding an object: the cache, then the sources in order, each with its retries and its breaker.
//!
//! Runs in tasks of the actor, one per request.
//!
//! - `FETCH-1` an answer is given only for a whole head (status 200), and never for bytes that
//!   differ from what was expected or declared: small bodies and checked ones are found right
//!   before they are given, the others break off instead of their last piece;
//! - `FETCH-2` a source that fails does not keep the next one from being asked, in the time there
//!   is;
//! - `FETCH-3` [`Reply::Absent`] means that every enabled source was asked and does not have it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use reqwest::Response;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, timeout_at};

use super::head::{self, Facts, Verdict};
use super::hold::Held;
use super::message::{Body, Message, Mode, Open, Opened, Refusal, Reply};
use super::request::{self, ListWanted, Unaskable};
use super::shared::{Kept, Shared};
use super::sources::{Came, Candidate};
use super::take::{self, TakeError};
use super::verify::Verifier;
use crate::actors::storage_node::message::INLINE_LIMIT;
use crate::cluster::shell;
use crate::data::ticket::Grant;
use crate::types::{DataId, now_ms};

/// Bodies up to this size are taken whole before they are given, and kept in the cache, in bytes.
const KEEP_LIMIT: u64 = 1 << 20;
/// Bodies up to this size are found right on disk before they are given, where there is an MD5 to
/// compare with, in bytes.
const AHEAD_LIMIT: u64 = 8 << 20;
/// Pieces of a stream that wait.
const WAITING_PIECES: usize = 4;
/// What is left of a caller's time for the way back.
const MARGIN: Duration = Duration::from_millis(100);

/// An object that was found, and its bytes.
struct Found {
    opened: Opened,
    bytes: Content,
}

/// Where the bytes are.
enum Content {
    None,
    Here(Bytes),
    File(super::spool::SpoolFile),
    /// Still at the source.
    There(Box<Response>, Verifier),
}

/// What one request to a source came to.
enum Attempt {
    Found(Box<Found>),
    Absent,
    /// It failed, and may do better.
    Again(String),
    /// It will not do better.
    Refused(String),
}

/// Serves one request; a stream is pumped to its end here.
pub async fn open(
    shared: Arc<Shared>,
    open: Open,
    deadline: Instant,
    reply: shell::Reply<Message>,
) {
    let deadline = (deadline - MARGIN).min(Instant::now() + shared.limits.timeout);
    let found = find(&shared, &open, deadline).await;
    shared.count(&found);
    let (found, _permit) = match found {
        Ok(Some((found, permit))) => (found, permit),
        Ok(None) => return reply.send(Ok(Reply::Absent)),
        Err(refusal) => return reply.send(Err(refusal)),
    };
    let source = found.opened.source.clone();
    match give(&shared, found) {
        Ok((opened, rest)) => {
            reply.send(Ok(Reply::Opened(Box::new(opened))));
            if let Some((response, verifier, to)) = rest {
                let done = take::pump(*response, verifier, to).await;
                if let Err(error @ (TakeError::Broken(_) | TakeError::Wrong(_))) = done {
                    let (bucket, key) = (&open.bucket, &open.key);
                    tracing::warn!(source, bucket, key, %error, "body broke");
                    shared.sources().record(&source, Came::Failed, now_ms());
                }
            }
        }
        Err(refusal) => reply.send(Err(refusal)),
    }
}

type Rest = (Box<Response>, Verifier, mpsc::Sender<Result<Bytes, String>>);

/// Makes the answer: bytes inline or by ticket. What still has to be pumped comes with it.
fn give(shared: &Shared, found: Found) -> Result<(Opened, Option<Rest>), Refusal> {
    let Found { mut opened, bytes } = found;
    let (held, rest) = match bytes {
        Content::None => return Ok((opened, None)),
        Content::Here(bytes) if bytes.len() as u64 <= INLINE_LIMIT => {
            opened.body = Body::Inline(bytes);
            return Ok((opened, None));
        }
        Content::Here(bytes) => (Held::Bytes(bytes), None),
        Content::File(file) => (Held::File(file), None),
        Content::There(response, verifier) => {
            let (tx, rx) = mpsc::channel(WAITING_PIECES);
            (Held::Stream(rx), Some((response, verifier, tx)))
        }
    };
    let data_id = DataId::new();
    let grant = Grant::Read { data_id, offset: 0, len: opened.size };
    let ticket = shared.transfers.grant(grant).map_err(|_| Refusal::Busy)?;
    shared.hold.put(data_id, held, opened.size, ticket.expires_ms);
    opened.body = Body::Ticket { ticket, data_id };
    Ok((opened, rest))
}

async fn find(
    shared: &Arc<Shared>,
    open: &Open,
    deadline: Instant,
) -> Result<Option<(Found, Option<OwnedSemaphorePermit>)>, Refusal> {
    if let Some(found) = from_cache(shared, open) {
        return Ok(Some((found, None)));
    }
    let permit = shared.permits.clone().try_acquire_owned().map_err(|_| Refusal::Busy)?;
    let candidates = shared.sources().candidates(open.source.as_deref())?;
    let mut failures = Vec::new();
    for candidate in candidates {
        match ask(shared, &candidate, open, deadline).await {
            Ok(Some(found)) => return Ok(Some((found, Some(permit)))),
            Ok(None) => {}
            Err(why) => failures.push(format!("{}: {why}", candidate.source.name)), // FETCH-2
        }
    }
    if failures.is_empty() { Ok(None) } else { Err(Refusal::Failed(failures.join("; "))) }
}

fn from_cache(shared: &Shared, open: &Open) -> Option<Found> {
    let kept = shared.cache().get(&open.bucket, &open.key, now_ms())?;
    let fits = |expect: super::message::Expect| {
        expect.size == kept.opened.size && Some(expect.md5) == kept.opened.md5
    };
    let right_source = open.source.as_ref().is_none_or(|s| *s == kept.opened.source);
    if !right_source || !open.expect.is_none_or(fits) {
        return None;
    }
    let opened = Opened { cached: true, ..kept.opened.clone() };
    let bytes = match open.mode {
        Mode::Head => Content::None,
        Mode::Stream | Mode::Checked => Content::Here(kept.bytes.clone()),
    };
    Some(Found { opened, bytes })
}

/// Asks one source, with its retries; `None` where it does not have the object.
async fn ask(
    shared: &Arc<Shared>,
    candidate: &Candidate,
    open: &Open,
    deadline: Instant,
) -> Result<Option<Found>, String> {
    let source = &candidate.source;
    let mut pause = source.retry_interval.0;
    let mut last = String::new();
    for attempt in 0..=source.max_retries {
        if attempt > 0 {
            let jittered = pause.mul_f64(0.5 + rand::random::<f64>());
            if Instant::now() + jittered >= deadline {
                break;
            }
            tokio::time::sleep(jittered).await;
            pause *= 2;
        }
        if !shared.sources().allow(&source.name, now_ms()) {
            let first = if last.is_empty() { "" } else { "; before: " };
            return Err(format!("left alone by its circuit breaker{first}{last}"));
        }
        let (begun, now) = (Instant::now(), now_ms());
        crate::metrics::get().moved();
        let outcome = once(shared, candidate, open, deadline).await;
        let (came, word) = match &outcome {
            Attempt::Found(_) => (Came::Found, "ok"),
            Attempt::Absent => (Came::Absent, "absent"),
            Attempt::Again(_) => (Came::Failed, "failed"),
            Attempt::Refused(_) => (Came::Refused, "refused"),
        };
        let callee = format!("third-party:{}", source.name);
        crate::metrics::get().called(&callee, "get", word, begun.elapsed());
        shared.sources().record(&source.name, came, now);
        match outcome {
            Attempt::Found(found) => return Ok(Some(*found)),
            Attempt::Absent => return Ok(None),
            Attempt::Refused(why) => return Err(why),
            Attempt::Again(why) => last = why,
        }
    }
    Err(last)
}

/// One request to one source.
async fn once(
    shared: &Arc<Shared>,
    candidate: &Candidate,
    open: &Open,
    deadline: Instant,
) -> Attempt {
    let source = &candidate.source;
    let method = if open.mode == Mode::Head { Method::HEAD } else { Method::GET };
    let url = match request::object_url(source, &method, &open.bucket, &open.key) {
        Ok(url) => url,
        Err(Unaskable::Key) => return Attempt::Absent, // no URL, no object
        Err(error) => return Attempt::Refused(error.to_string()),
    };
    let limit = deadline.min(Instant::now() + source.timeout.0);
    let sent = timeout_at(limit, candidate.client.request(method, url).send()).await;
    let response = match sent {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => return Attempt::Again(plain(error)),
        Err(_) => return Attempt::Again("no answer in time".into()),
    };
    match head::judge(response.status()) {
        Verdict::Found => {}
        Verdict::Absent => return Attempt::Absent,
        Verdict::Again => return Attempt::Again(response.status().to_string()),
        Verdict::Refused => return Attempt::Refused(response.status().to_string()),
    }
    let facts = match head::read(source.kind, response.headers(), open.mode == Mode::Head) {
        Ok(facts) => facts,
        Err(why) => return Attempt::Refused(why),
    };
    let differs = open.expect.is_some_and(|e| {
        facts.size.is_some_and(|s| s != e.size) || facts.md5.is_some_and(|m| m != e.md5)
    });
    if differs {
        return Attempt::Absent; // it has another object under this key
    }
    match timeout_at(deadline, body(shared, candidate, open, facts, response)).await {
        Ok(Ok(found)) => Attempt::Found(Box::new(found)),
        Ok(Err(TakeError::Broken(error))) => Attempt::Again(plain(error)),
        Ok(Err(TakeError::Wrong(error))) => Attempt::Again(error.to_string()),
        Ok(Err(error)) => Attempt::Refused(error.to_string()),
        Err(_) => Attempt::Refused("the body took too long".into()),
    }
}

/// An error without the URL, which holds a signature.
fn plain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

/// Takes the body as its size, what is known of it and the mode ask for (FETCH-1).
async fn body(
    shared: &Arc<Shared>,
    candidate: &Candidate,
    open: &Open,
    facts: Facts,
    response: Response,
) -> Result<Found, TakeError> {
    let size = open.expect.map(|e| e.size).or(facts.size);
    let md5 = open.expect.map(|e| e.md5).or(facts.md5);
    let verifier = Verifier::new(size, md5);
    let small = size.is_some_and(|s| s <= KEEP_LIMIT);
    let ahead =
        open.mode == Mode::Checked || (md5.is_some() && size.is_some_and(|s| s <= AHEAD_LIMIT));
    let opened = |size, md5: Option<[u8; 16]>| Opened {
        source: candidate.source.name.clone(),
        size,
        etag: facts.etag.clone().or(md5.map(hex::encode)).unwrap_or_default(),
        md5,
        last_modified_ms: facts.last_modified_ms,
        head: facts.head.clone(),
        cached: false,
        body: Body::None,
    };
    match size {
        _ if open.mode == Mode::Head => {
            Ok(Found { opened: opened(size.unwrap_or(0), md5), bytes: Content::None })
        }
        Some(_) if small => {
            let taken = take::keep(response, verifier).await?;
            let opened = opened(taken.size, Some(taken.md5));
            let kept = Kept { opened: opened.clone(), bytes: taken.body.clone() };
            shared.cache().put(&open.bucket, &open.key, kept, taken.size, now_ms());
            Ok(Found { opened, bytes: Content::Here(taken.body) })
        }
        Some(size) if !ahead => {
            let bytes = Content::There(Box::new(response), verifier);
            Ok(Found { opened: opened(size, md5), bytes })
        }
        Some(_) | None => {
            let taken = take::spool(response, verifier, &shared.spool).await?;
            let opened = opened(taken.size, Some(taken.md5));
            Ok(Found { opened, bytes: Content::File(taken.body) })
        }
    }
}

/// Asks the S3 sources for their keys, the first that answers.
pub async fn list(
    shared: &Arc<Shared>,
    wanted: ListWanted,
    pinned: Option<&str>,
    deadline: Instant,
) -> Result<Reply, Refusal> {
    let _permit = shared.permits.clone().try_acquire_owned().map_err(|_| Refusal::Busy)?;
    let candidates = shared.sources().candidates(pinned)?;
    let mut failures = Vec::new();
    for candidate in candidates {
        let name = candidate.source.name.clone();
        let url = match request::list_url(&candidate.source, &wanted) {
            Ok(url) => url,
            Err(Unaskable::Kind) => continue,
            Err(error) => {
                failures.push(format!("{name}: {error}"));
                continue;
            }
        };
        if !shared.sources().allow(&name, now_ms()) {
            failures.push(format!("{name}: left alone by its circuit breaker"));
            continue;
        }
        let limit = deadline.min(Instant::now() + candidate.source.timeout.0);
        let listed = timeout_at(limit, listing(&candidate, url)).await;
        let listed = listed.unwrap_or_else(|_| Err((Came::Failed, "no answer in time".into())));
        let came = listed.as_ref().map_or_else(|(came, _)| *came, |_| Came::Found);
        shared.sources().record(&name, came, now_ms());
        match listed {
            Ok(listed) => return Ok(Reply::Listed(listed)),
            Err((Came::Absent, _)) => {}
            Err((_, why)) => failures.push(format!("{name}: {why}")),
        }
    }
    if failures.is_empty() { Ok(Reply::Absent) } else { Err(Refusal::Failed(failures.join("; "))) }
}

async fn listing(
    candidate: &Candidate,
    url: reqwest::Url,
) -> Result<super::message::Listed, (Came, String)> {
    let sent = candidate.client.get(url).send().await;
    let response = sent.map_err(|e| (Came::Failed, plain(e)))?;
    let status = response.status().to_string();
    match head::judge(response.status()) {
        Verdict::Found => {}
        Verdict::Absent => return Err((Came::Absent, status)),
        Verdict::Again => return Err((Came::Failed, status)),
        Verdict::Refused => return Err((Came::Refused, status)),
    }
    let read = request::read_listing(&candidate.source.name, response).await;
    read.map_err(|why| (Came::Failed, why))
}
