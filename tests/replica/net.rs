//! The network of the simulation: late, lossy, cut, and never in the same order.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mocks3::replica::message::{Rpc, RpcReply};
use mocks3::replica::types::{ImageMeta, Peer, Vote};
use mocks3::replica::{Carrier, CarrierError, Machine, Replica};

use crate::world::Dice;

/// How bad the network is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// How many messages are lost,
    pub loss: f64,
    /// come twice,
    pub twice: f64,
    /// or come late.
    pub late: f64,
}

struct State<M: Machine> {
    nodes: BTreeMap<String, (u64, Replica<M>)>,
    cut: BTreeSet<(String, String)>,
    weather: Weather,
    lives: u64,
}

/// The network. Clones are the same network.
pub struct Net<M: Machine> {
    state: Arc<Mutex<State<M>>>,
    dice: Dice,
}

impl<M: Machine> Clone for Net<M> {
    fn clone(&self) -> Self {
        Net { state: self.state.clone(), dice: self.dice.clone() }
    }
}

impl<M: Machine> Net<M> {
    pub fn new(dice: Dice) -> Self {
        let (nodes, cut, weather) = (BTreeMap::new(), BTreeSet::new(), Weather::default());
        Net { state: Arc::new(Mutex::new(State { nodes, cut, weather, lives: 0 })), dice }
    }

    /// A carrier for a new life of a node.
    pub fn carrier(&self, from: &str) -> SimCarrier<M> {
        let mut state = self.state.lock().unwrap();
        state.lives += 1;
        SimCarrier { net: self.clone(), from: from.to_owned(), life: state.lives }
    }

    /// The node of this carrier takes messages.
    pub fn join(&self, carrier: &SimCarrier<M>, replica: Replica<M>) {
        let row = (carrier.life, replica);
        self.state.lock().unwrap().nodes.insert(carrier.from.clone(), row);
    }

    /// A node is gone.
    pub fn leave(&self, name: &str) {
        self.state.lock().unwrap().nodes.remove(name);
    }

    /// Nothing goes from one to the other.
    pub fn cut(&self, from: &str, to: &str) {
        self.state.lock().unwrap().cut.insert((from.to_owned(), to.to_owned()));
    }

    pub fn weather(&self, weather: Weather) {
        self.state.lock().unwrap().weather = weather;
    }

    /// All links work, and well.
    pub fn heal(&self) {
        let mut state = self.state.lock().unwrap();
        state.cut.clear();
        state.weather = Weather::default();
    }

    fn is_cut(&self, from: &str, to: &str) -> bool {
        self.state.lock().unwrap().cut.contains(&(from.to_owned(), to.to_owned()))
    }

    fn node(&self, name: &str) -> Option<(u64, Replica<M>)> {
        self.state.lock().unwrap().nodes.get(name).cloned()
    }

    /// One way of a message; none = it never arrives.
    async fn travel(&self, from: &str, to: &str) -> Option<()> {
        let weather = self.state.lock().unwrap().weather;
        let mut micros = 50 + self.dice.below(2000) as u64;
        if self.dice.chance(weather.late) {
            micros += self.dice.below(400_000) as u64;
        }
        let lost = self.dice.chance(weather.loss);
        tokio::time::sleep(Duration::from_micros(micros)).await;
        (!lost && !self.is_cut(from, to)).then_some(())
    }
}

/// How one life of a node sends.
pub struct SimCarrier<M: Machine> {
    net: Net<M>,
    from: String,
    life: u64,
}

impl<M: Machine> Clone for SimCarrier<M> {
    fn clone(&self) -> Self {
        SimCarrier { net: self.net.clone(), from: self.from.clone(), life: self.life }
    }
}

impl<M: Machine> SimCarrier<M> {
    /// Whether this life goes on.
    fn lives(&self) -> bool {
        self.net.node(&self.from).is_some_and(|(life, _)| life == self.life)
    }

    async fn there_and_back(&self, to: &Peer, rpc: Rpc) -> Option<RpcReply> {
        self.net.travel(&self.from, &to.instance).await?;
        let (_, target) = self.net.node(&to.instance)?;
        let twice = self.net.state.lock().unwrap().weather.twice;
        if self.net.dice.chance(twice) {
            let (again, net, target) = (rpc.clone(), self.net.clone(), target.clone());
            let (from, to) = (self.from.clone(), to.instance.clone());
            tokio::spawn(async move {
                if net.travel(&from, &to).await.is_some() && net.node(&to).is_some() {
                    target.serve(again).await;
                }
            });
        }
        let reply = target.serve(rpc).await;
        self.net.travel(&to.instance, &self.from).await?;
        Some(reply)
    }
}

impl<M: Machine> Carrier for SimCarrier<M> {
    async fn call(&self, to: &Peer, rpc: Rpc, limit: Duration) -> Result<RpcReply, CarrierError> {
        if !self.lives() {
            std::future::pending::<()>().await; // a dead process sends nothing
        }
        let answer = tokio::time::timeout(limit, async {
            match self.there_and_back(to, rpc).await {
                Some(reply) => reply,
                None => std::future::pending().await,
            }
        });
        answer.await.map_err(|_| CarrierError("no answer".into()))
    }

    async fn image(
        &self,
        to: &Peer,
        vote: Vote,
        meta: ImageMeta,
        file: PathBuf,
        _limit: Duration,
    ) -> Result<Vote, CarrierError> {
        let lost = || CarrierError("the image was lost".into());
        if !self.lives() {
            std::future::pending::<()>().await;
        }
        self.net.travel(&self.from, &to.instance).await.ok_or_else(lost)?;
        let (_, target) = self.net.node(&to.instance).ok_or_else(lost)?;
        let taken = target.install(vote, meta, file).await.map_err(CarrierError)?;
        self.net.travel(&to.instance, &self.from).await.ok_or_else(lost)?;
        Ok(taken)
    }
}
