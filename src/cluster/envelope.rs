//! The one envelope of every message between actors of the services.
//!
//! `ractor::Message` is written here by hand, once, for [`Env<M>`]; services only describe their
//! request and reply as data ([`Wire`]). What would otherwise be silence becomes a [`Nack`]:
//! bytes that do not decode, another version, a passed deadline, a reply port that was dropped.
//!
//! - `ENV-1` every call that reaches a node is answered, with a reply or with a [`Nack`];
//! - `ENV-2` deadlines travel as time left, so that clocks of nodes need not agree;
//! - `ENV-3` `Tick`, `Fail`, `Crash` and `Observe` never leave the node.

use std::fmt::Debug;
use std::time::Duration;

use ractor::message::{BoxedDowncastErr, SerializedMessage};
use ractor::{Message, RpcReplyPort};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::time::Instant;

use super::codec::{self, CodecError};
use super::scope::{Scope, TraceContext};

/// What a service actor speaks. Variant names and field order are the wire format: add, never change.
pub trait Wire: Serialize + DeserializeOwned + Clone + Debug + Send + 'static {
    /// The answer to any request of this type.
    type Reply: Serialize + DeserializeOwned + Debug + Send + 'static;
    /// Raised when old and new nodes would misread each other.
    const VERSION: u16;
    /// The process group of the actors that take it.
    const ROLE: &'static str;
    /// The name of the request's kind, for metrics, logs and fault selectors.
    fn kind(&self) -> &'static str;
    /// What a reply counts as in metrics: `ok`, or the name of its error out of a fixed set.
    fn outcome(_reply: &Self::Reply) -> &'static str {
        "ok"
    }
}

/// Why a call was not served, said by the callee (or by the envelope in its name).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Nack {
    /// The request or reply did not decode.
    #[error("message did not decode")]
    Decode,
    /// The peer speaks another version of this message type.
    #[error("message version differs")]
    Version,
    /// The deadline had passed before the work began; it was not done.
    #[error("deadline passed before the work began")]
    Deadline,
    /// The actor ended or forgot the request; whether the work was done is unknown.
    #[error("request was dropped")]
    Dropped,
    /// Too much work in flight; this request was not begun.
    #[error("overloaded")]
    Overload,
    /// The reply exceeded the message limit, and the work was done; or the request exceeds what the
    /// role's log takes, and it was not begun.
    #[error("message exceeds the limit")]
    TooLarge,
    /// The actor is not ready (starting or stopping); the work was not begun.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// The actor is one of several and not the one that takes this; the work was not begun. The
    /// instance that does, where that is known.
    #[error("not the leader")]
    NotLeader(Option<String>),
}

/// What a caller gets back through the envelope.
pub type Answer<M> = Result<<M as Wire>::Reply, Nack>;

/// What travels beside the request.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Header {
    version: u16,
    budget_us: u64,
    trace: TraceContext,
    request_id: u128,
    key: u128,
}

/// What the callee learns about a call.
#[derive(Clone, Copy, Debug)]
pub struct Meta {
    /// Deadline and identity.
    pub scope: Scope,
    /// Idempotency key: the same for every retry of one intent; 0 = none.
    pub key: u128,
}

/// How an actor goes wrong on purpose. (Being killed needs no message.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// Panics in its handler.
    Panic,
    /// Never returns from its handler: nothing behind it in the mailbox is taken any more.
    Hang,
}

/// A message in the mailbox of a service actor.
pub enum Env<M: Wire> {
    /// A request that waits for an answer; the only variant that crosses nodes.
    Call(Meta, M, RpcReplyPort<Answer<M>>),
    /// The actor's own timer.
    Tick,
    /// A task of the actor found its state not to be trusted: end, and restart from disk.
    Fail(String),
    /// Go wrong on purpose: what fault injection and the crash tests do to one actor.
    Crash(Crash),
    /// Asks for the actor's summary as JSON text.
    Observe(RpcReplyPort<String>),
}

impl<M: Wire> Message for Env<M> {
    fn serializable() -> bool {
        true
    }

    fn serialize(self) -> Result<SerializedMessage, BoxedDowncastErr> {
        let Env::Call(meta, request, port) = self else { return Err(BoxedDowncastErr) };
        crate::metrics::get().moved();
        let header = Header {
            version: M::VERSION,
            budget_us: meta.scope.remaining().as_micros() as u64,
            trace: meta.scope.trace,
            request_id: meta.scope.request_id,
            key: meta.key,
        };
        let variant = request.kind().to_owned();
        let (Ok(head), Ok(args)) = (codec::encode(&header), codec::encode(&request)) else {
            return Err(BoxedDowncastErr); // the caller side checked the size before it came here
        };
        let timeout = port.get_timeout();
        let (tx, rx) = ractor::concurrency::oneshot::<Vec<u8>>();
        tokio::spawn(async move {
            if let Ok(bytes) = rx.await {
                let answer = codec::decode::<Answer<M>>(&bytes).unwrap_or(Err(Nack::Decode));
                let _ = port.send(answer); // the caller may have stopped waiting
            }
        });
        let reply = match timeout {
            Some(limit) => (tx, limit).into(),
            None => tx.into(),
        };
        Ok(SerializedMessage::Call { variant, args, metadata: Some(head), reply })
    }

    fn deserialize(message: SerializedMessage) -> Result<Self, BoxedDowncastErr> {
        let SerializedMessage::Call { args, metadata, reply, .. } = message else {
            return Err(BoxedDowncastErr);
        };
        crate::metrics::get().moved();
        match open::<M>(&args, metadata.as_deref().unwrap_or_default()) {
            Ok((meta, request)) => Ok(Env::Call(meta, request, answer_port::<M>(reply))),
            Err(nack) => {
                let _ = reply.send(encode_answer::<M>(&Err(nack)));
                Err(BoxedDowncastErr)
            }
        }
    }
}

/// Checks and decodes an arriving call.
fn open<M: Wire>(args: &[u8], head: &[u8]) -> Result<(Meta, M), Nack> {
    let header: Header = codec::decode(head).map_err(|_| Nack::Decode)?;
    if header.version != M::VERSION {
        return Err(Nack::Version);
    }
    let request = codec::decode(args).map_err(|_| Nack::Decode)?;
    let budget = Duration::from_micros(header.budget_us.min(3_600_000_000));
    let scope = Scope {
        deadline: Instant::now() + budget,
        trace: header.trace,
        request_id: header.request_id,
    };
    Ok((Meta { scope, key: header.key }, request))
}

/// A typed port in front of the bytes port; a dropped one becomes an explicit NACK, not silence.
fn answer_port<M: Wire>(reply: RpcReplyPort<Vec<u8>>) -> RpcReplyPort<Answer<M>> {
    let (tx, rx) = ractor::concurrency::oneshot::<Answer<M>>();
    let timeout = reply.get_timeout();
    tokio::spawn(async move {
        let answer = rx.await.unwrap_or(Err(Nack::Dropped));
        let _ = reply.send(encode_answer::<M>(&answer));
    });
    match timeout {
        Some(limit) => (tx, limit).into(),
        None => tx.into(),
    }
}

fn encode_answer<M: Wire>(answer: &Answer<M>) -> Vec<u8> {
    let nack = match codec::encode(answer) {
        Ok(bytes) => return bytes,
        Err(CodecError::TooLarge(_)) => Nack::TooLarge,
        Err(CodecError::Malformed(_)) => Nack::Decode,
    };
    codec::encode(&Err::<M::Reply, Nack>(nack)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug, Serialize, Deserialize)]
    enum Ask {
        Echo(Vec<u8>),
        Grow(u32),
    }
    impl Wire for Ask {
        type Reply = Vec<u8>;
        const VERSION: u16 = 3;
        const ROLE: &'static str = "envelope_test";
        fn kind(&self) -> &'static str {
            match self {
                Ask::Echo(_) => "echo",
                Ask::Grow(_) => "grow",
            }
        }
    }

    fn header(version: u16) -> Vec<u8> {
        let scope = Scope::new(Duration::from_secs(1));
        codec::encode(&Header {
            version,
            budget_us: 1_000_000,
            trace: scope.trace,
            request_id: 1,
            key: 2,
        })
        .unwrap()
    }

    async fn deliver(
        args: Vec<u8>,
        head: Vec<u8>,
    ) -> (Option<Env<Ask>>, impl Future<Output = Answer<Ask>>) {
        let (tx, rx) = ractor::concurrency::oneshot::<Vec<u8>>();
        let call = SerializedMessage::Call {
            variant: "echo".into(),
            args,
            metadata: Some(head),
            reply: tx.into(),
        };
        let env = Env::<Ask>::deserialize(call).ok();
        (env, async move { codec::decode(&rx.await.expect("an answer")).expect("decodes") })
    }

    #[tokio::test]
    async fn bad_bytes_and_other_versions_are_answered_at_once() {
        let (env, answer) = deliver(vec![255; 9], header(3)).await;
        assert!(env.is_none());
        assert_eq!(answer.await, Err(Nack::Decode));
        let (_, answer) = deliver(vec![], vec![1, 2, 3]).await;
        assert_eq!(answer.await, Err(Nack::Decode));
        let (_, answer) = deliver(codec::encode(&Ask::Grow(1)).unwrap(), header(4)).await;
        assert_eq!(answer.await, Err(Nack::Version));
    }

    #[tokio::test]
    async fn a_dropped_port_and_an_oversized_reply_are_answered() {
        let args = codec::encode(&Ask::Echo(vec![1])).unwrap();
        let (env, answer) = deliver(args.clone(), header(3)).await;
        drop(env);
        assert_eq!(answer.await, Err(Nack::Dropped));
        let (env, answer) = deliver(args, header(3)).await;
        let Some(Env::Call(_, _, port)) = env else { panic!("a call") };
        port.send(Ok(vec![0; codec::MESSAGE_LIMIT as usize])).unwrap();
        assert_eq!(answer.await, Err(Nack::TooLarge));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_bytes_are_answered_and_never_panic(args in proptest::collection::vec(any::<u8>(), 0..64),
                                                  head in proptest::collection::vec(any::<u8>(), 0..64)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let (env, answer) = deliver(args, head).await;
                if env.is_none() { assert!(answer.await.is_err()); }
            });
        }
    }
}
