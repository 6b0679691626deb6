//! 192 KiB is the largest message: a larger one is refused before it is sent, whatever its type.
//!
//! An oversized frame would end the session, and every call that is pending on it.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mocks3::cluster::calls::instance_group;
use mocks3::cluster::codec::{self, MESSAGE_LIMIT};
use mocks3::cluster::envelope::{Env, Meta};
use mocks3::cluster::{CallError, Cluster, Nack, Scope, To, Wire};
use ractor::message::SerializedMessage;
use ractor::{Actor, ActorProcessingErr, ActorRef, Message, RpcReplyPort};

use crate::chance::Chance;
use crate::maker::{make, variants_of};
use crate::node::a_cluster;
use crate::wires::{ForEach, each};

/// Counts the calls that reach it.
struct Sink<M>(Arc<AtomicUsize>, PhantomData<fn() -> M>);

impl<M: Wire + Sync> Actor for Sink<M> {
    type Msg = Env<M>;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<Env<M>>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<Env<M>>,
        _: Env<M>,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

fn meta() -> Meta {
    Meta { scope: Scope::new(Duration::from_secs(5)), key: 0 }
}

/// A value over the limit, or none where the variant holds nothing that could grow.
fn over_the_limit<T>(chance: &mut Chance, variant: u32) -> Option<T>
where
    T: serde::de::DeserializeOwned + serde::Serialize,
{
    let mut largest = 0;
    for _ in 0..200 {
        let value: T = make(chance, Some(variant), true).expect("a value of each variant");
        let size = codec::encoded_size(&value);
        if size > MESSAGE_LIMIT {
            return Some(value);
        }
        largest = largest.max(size);
    }
    assert!(largest < 1024, "variant {variant} grew to {largest} bytes and not over the limit");
    None
}

/// What the envelope makes of a request on its way to another node.
fn on_the_wire<M: Wire>(request: M) -> Option<SerializedMessage> {
    let (tx, _rx) = ractor::concurrency::oneshot();
    Env::Call(meta(), request, tx.into()).serialize().ok()
}

async fn requests<M: Wire + Sync>(chance: &mut Chance) -> usize {
    let cluster: Cluster = a_cluster();
    let reached = Arc::new(AtomicUsize::new(0));
    let sink = Sink::<M>(reached.clone(), PhantomData);
    let (actor, ended) = Actor::spawn(None, sink, ()).await.unwrap();
    ractor::pg::join(instance_group(M::ROLE, cluster.instance()), vec![actor.get_cell()]);
    let to = || To::Instance(cluster.instance());
    let mut refused = 0;
    for variant in 0..variants_of::<M>(chance) as u32 {
        let small: M = make(chance, Some(variant), false).expect("a value of each variant");
        let _ = cluster.call(&meta().scope, to(), small.clone()).await; // the sink answers nothing
        assert_eq!(reached.swap(0, Ordering::SeqCst), 1, "a small {} arrives", small.kind());
        assert!(on_the_wire(small).is_some());
        let Some(large) = over_the_limit::<M>(chance, variant) else { continue };
        let (kind, size) = (large.kind(), codec::encoded_size(&large));
        let answer = cluster.call(&meta().scope, to(), large.clone()).await.err();
        assert_eq!(answer, Some(CallError::TooLarge(size)), "{} {kind}", M::ROLE);
        assert_eq!(reached.load(Ordering::SeqCst), 0, "{} {kind} was sent", M::ROLE);
        assert!(on_the_wire(large).is_none(), "{} {kind} got on the wire", M::ROLE);
        refused += 1;
    }
    actor.stop(None);
    ended.await.unwrap();
    refused
}

/// Lets an actor on this node answer a call that came over the wire; what goes back.
async fn answer_with<M: Wire>(reply: M::Reply, request: M) -> Result<M::Reply, Nack> {
    let Some(SerializedMessage::Call { args, variant, metadata, .. }) = on_the_wire(request) else {
        panic!("a small request is sent");
    };
    let (tx, rx) = ractor::concurrency::oneshot::<Vec<u8>>();
    let reply_to: RpcReplyPort<Vec<u8>> = tx.into();
    let arrived = SerializedMessage::Call { args, variant, metadata, reply: reply_to };
    let Ok(Env::Call(_, _, port)) = Env::<M>::deserialize(arrived) else { panic!("a good call") };
    port.send(Ok(reply)).unwrap();
    let bytes = rx.await.unwrap();
    assert!(bytes.len() as u64 <= MESSAGE_LIMIT, "{} bytes went out", bytes.len());
    codec::decode(&bytes).unwrap()
}

async fn replies<M: Wire + Sync>(chance: &mut Chance) -> usize {
    let mut refused = 0;
    for variant in 0..variants_of::<M::Reply>(chance) as u32 {
        let request: M = make(chance, None, false).unwrap();
        let small: M::Reply = make(chance, Some(variant), false).expect("a reply of each variant");
        assert!(answer_with(small, request.clone()).await.is_ok(), "{} {variant}", M::ROLE);
        let Some(large) = over_the_limit::<M::Reply>(chance, variant) else { continue };
        let answer = answer_with(large, request).await.err();
        assert_eq!(answer, Some(Nack::TooLarge), "{} reply {variant}", M::ROLE);
        refused += 1;
    }
    refused
}

#[test]
fn no_request_over_the_limit_is_sent_and_no_reply_over_it_is() {
    struct Both(Chance);
    impl ForEach for Both {
        fn with<M: Wire + Sync>(&mut self, file: &'static str) {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let (requests, replies) = runtime.block_on(async {
                (requests::<M>(&mut self.0).await, replies::<M>(&mut self.0).await)
            });
            eprintln!("{file}: {requests} kinds of request and {replies} of reply refused");
            assert!(requests > 0 && replies > 0, "{file}: nothing in it could grow?");
        }
    }
    each(&mut Both(Chance::new("too large", 0)));
}
