//! Whatever bytes arrive in an envelope: a value or a refusal, never a panic, never silence.

use std::time::{Duration, Instant};

use mocks3::cluster::codec::{self, DECODE_LIMIT};
use mocks3::cluster::envelope::{Env, Meta};
use mocks3::cluster::{Nack, Scope, Wire};
use ractor::Message;
use ractor::message::SerializedMessage;

use crate::chance::Chance;
use crate::maker::make;
use crate::wires::{ForEach, each};

/// A request as it stands on the wire: head and arguments.
fn encoded<M: Wire>(request: M) -> Option<(Vec<u8>, Vec<u8>)> {
    let (tx, _rx) = ractor::concurrency::oneshot();
    let meta = Meta { scope: Scope::new(Duration::from_secs(5)), key: 7 };
    match Env::Call(meta, request, tx.into()).serialize().ok()? {
        SerializedMessage::Call { args, metadata, .. } => Some((metadata?, args)),
        _ => None,
    }
}

/// A call must become a message or be answered with a refusal.
async fn call_is_answered<M: Wire>(head: Vec<u8>, args: Vec<u8>) {
    let (tx, rx) = ractor::concurrency::oneshot::<Vec<u8>>();
    let call = SerializedMessage::Call {
        variant: "x".into(),
        args,
        metadata: Some(head),
        reply: tx.into(),
    };
    let taken = Env::<M>::deserialize(call).ok();
    let readable = taken.is_some();
    drop(taken); // an actor that forgets it
    let bytes = rx.await.expect("an answer, never silence");
    let answer: Result<M::Reply, Nack> = codec::decode(&bytes).expect("an answer that decodes");
    match answer {
        Err(Nack::Dropped) => assert!(readable),
        Err(Nack::Decode | Nack::Version) => assert!(!readable),
        other => panic!("{other:?}"),
    }
}

async fn attack<M: Wire>(chance: &mut Chance, corpus: &[Vec<u8>]) {
    let request: M = make(chance, None, false).unwrap();
    let (head, args) = encoded(request).unwrap();
    assert!(codec::decode::<M>(&args).is_ok());
    let spoilt = match chance.one_in(10) {
        true => chance.bytes(600),
        false => chance.spoil(&args, corpus),
    };
    let begun = Instant::now();
    let _ = codec::decode::<M>(&spoilt); // a value or an error
    let _ = codec::decode::<Result<M::Reply, Nack>>(&spoilt);
    let reply: M::Reply = make(chance, None, false).unwrap();
    let reply = codec::encode(&Ok::<M::Reply, Nack>(reply)).unwrap();
    let _ = codec::decode::<Result<M::Reply, Nack>>(&chance.spoil(&reply, corpus));
    assert!(begun.elapsed() < Duration::from_secs(1), "a few bytes took {:?}", begun.elapsed());
    let head = if chance.one_in(3) { chance.spoil(&head, corpus) } else { head };
    call_is_answered::<M>(head, spoilt).await;
    for other in [
        SerializedMessage::Cast { variant: "x".into(), args: args.clone(), metadata: None },
        SerializedMessage::CallReply(7, args),
    ] {
        assert!(Env::<M>::deserialize(other).is_err(), "only calls cross nodes");
    }
}

#[test]
fn spoilt_messages_of_every_type_are_refused_and_never_panic() {
    struct Attack {
        chance: Chance,
        corpus: Vec<Vec<u8>>,
        runtime: tokio::runtime::Runtime,
    }
    impl ForEach for Attack {
        fn with<M: Wire + Sync>(&mut self, _: &'static str) {
            let Attack { chance, corpus, runtime } = self;
            let _runtime = runtime.enter(); // the envelope begins tasks
            if corpus.len() < 200 {
                corpus.extend(encoded(make::<M>(chance, None, false).unwrap()).map(|(_, a)| a));
            }
            for _ in 0..50 {
                runtime.block_on(attack::<M>(chance, corpus));
            }
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut attack = Attack { chance: Chance::new("messages", 5), corpus: Vec::new(), runtime };
    let mut rounds = 0;
    while attack.chance.goes_on() {
        each(&mut attack);
        rounds += 1;
    }
    eprintln!("{} spoilt messages", rounds * 250);
}

#[test]
fn nothing_over_the_limit_is_decoded_however_it_announces_itself() {
    let over = vec![0u8; DECODE_LIMIT as usize + 1];
    assert!(codec::decode::<Vec<u8>>(&over).is_err());
    assert!(codec::decode::<(Vec<u8>, Vec<u8>)>(&over).is_err());
    for announced in [1u64 << 20, 1 << 40, u64::MAX] {
        let mut bytes = announced.to_le_bytes().to_vec();
        bytes.resize(4096, 7);
        assert!(codec::decode::<Vec<u64>>(&bytes).is_err());
        assert!(codec::decode::<Vec<String>>(&bytes).is_err());
    }
}
