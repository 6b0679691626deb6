//! The way of a client to the nodes: any of them, then the one that it names; answers get lost, and
//! what was sent comes again later.

use std::time::Duration;

use mocks3::replica::types::{Item, Peer};
use mocks3::replica::{Machine, ProposeError};
use tokio::sync::oneshot;

use crate::world::{Dice, Life, Running, Subject};

/// What the machine of a subject answers.
pub type OutcomeOf<S> = <<S as Subject>::Machine as Machine>::Outcome;

/// How many answers are lost, and how many requests come twice.
const TROUBLE: f64 = 0.04;

/// When the last request that comes twice has come.
pub const LATE: Duration = Duration::from_millis(2000);

/// A client's way.
pub struct Way<S: Subject> {
    pub dice: Dice,
    pub running: Running<S>,
}

impl<S: Subject> Clone for Way<S> {
    fn clone(&self) -> Self {
        Way { dice: self.dice.clone(), running: self.running.clone() }
    }
}

impl<S: Subject> Way<S> {
    /// Any node that runs.
    pub fn any(&self) -> Option<Life<S>> {
        let running = self.running.lock().unwrap();
        let n = self.dice.below(running.len());
        running.values().nth(n).cloned()
    }

    fn at(&self, peer: &Peer) -> Option<Life<S>> {
        let n: usize = peer.instance.strip_prefix("node-")?.parse().ok()?;
        self.running.lock().unwrap().get(&n).cloned()
    }

    /// Tries until it is answered, each time under the key that `key` gives.
    pub async fn submit(&self, body: Vec<u8>, mut key: impl FnMut() -> u128) -> OutcomeOf<S> {
        let mut target = self.any();
        loop {
            if let Some(life) = &target {
                let item = Item { key: key(), body: body.clone().into() };
                match self.send(life, item).await {
                    Ok(Ok(outcome)) if !self.dice.chance(TROUBLE) => return outcome,
                    Ok(Err(ProposeError::NotLeader(Some(leader)))) => {
                        target = self.at(&leader);
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        continue;
                    }
                    Ok(_) | Err(_) => {}
                }
            }
            tokio::time::sleep(self.dice.pause(100)).await;
            target = self.any();
        }
    }

    fn send(
        &self,
        life: &Life<S>,
        item: Item,
    ) -> oneshot::Receiver<Result<OutcomeOf<S>, ProposeError>> {
        if self.dice.chance(TROUBLE) {
            let (replica, again) = (life.replica.clone(), item.clone());
            let late = self.dice.pause(LATE.as_millis() as usize);
            tokio::spawn(async move {
                tokio::time::sleep(late).await;
                replica.submit(again, |_| ());
            });
        }
        let (tx, rx) = oneshot::channel();
        life.replica.submit(item, move |result| drop(tx.send(result)));
        rx
    }
}
