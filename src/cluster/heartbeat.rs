//! The failure detector: pings over UDP, sent and answered by a thread of its own.
//!
//! A peer that is killed, frozen or cut off stops answering within one interval and is declared
//! silent after [`SILENCE_LIMIT`]. A peer that is merely busy is not: its answers do not pass
//! through the tokio workers. Packets carry an HMAC under the cluster secret and the incarnation
//! that they are meant for, so that a restarted or foreign process cannot answer for a dead one.
//!
//! - `BEAT-1` a peer is silent only if this thread itself ran all the while: after a pause of our
//!   own (SIGSTOP, a starved machine) everybody gets a fresh limit;
//! - `BEAT-2` each peer is reported silent once.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::handshake::Secret;

/// How often each peer is pinged.
pub const INTERVAL: Duration = Duration::from_millis(300);
/// How long a peer may be silent.
pub const SILENCE_LIMIT: Duration = Duration::from_millis(1500);
/// How long the thread waits for a packet before it looks at the clock.
const POLL: Duration = Duration::from_millis(50);

const PING: u8 = 1;
const PONG: u8 = 2;
/// kind, incarnation of the sender, incarnation of the receiver, sequence; then the tag.
const BODY: usize = 1 + 16 + 16 + 8;
const TAG: usize = 16;

/// When to ping and whom to give up: the decisions, without socket or clock.
#[derive(Default)]
pub struct Detector {
    peers: HashMap<u128, Peer>,
    last_step: Option<Instant>,
}

struct Peer {
    address: SocketAddr,
    heard: Instant,
    pinged: Option<Instant>,
    reported: bool,
}

/// What the thread is to do now.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send a ping to this incarnation.
    Ping(u128, SocketAddr),
    /// This incarnation has been silent too long.
    Silent(u128),
}

impl Detector {
    /// Watch a peer from now on.
    pub fn watch(&mut self, incarnation: u128, address: SocketAddr, now: Instant) {
        let peer = Peer { address, heard: now, pinged: None, reported: false };
        self.peers.insert(incarnation, peer);
    }

    /// Watch it no more.
    pub fn forget(&mut self, incarnation: u128) {
        self.peers.remove(&incarnation);
    }

    /// A packet of this peer came in.
    pub fn heard(&mut self, incarnation: u128, now: Instant) {
        if let Some(peer) = self.peers.get_mut(&incarnation) {
            peer.heard = now;
        }
    }

    /// What is due now.
    pub fn step(&mut self, now: Instant) -> Vec<Effect> {
        let paused = self.last_step.is_some_and(|last| now - last > 2 * INTERVAL);
        self.last_step = Some(now);
        let mut effects = Vec::new();
        for (&incarnation, peer) in &mut self.peers {
            if paused {
                peer.heard = now; // BEAT-1
            }
            if peer.pinged.is_none_or(|at| now - at >= INTERVAL) {
                peer.pinged = Some(now);
                effects.push(Effect::Ping(incarnation, peer.address));
            }
            if now - peer.heard > SILENCE_LIMIT && !peer.reported {
                peer.reported = true; // BEAT-2
                effects.push(Effect::Silent(incarnation));
            }
        }
        effects
    }
}

/// The running detector. Dropping it ends the thread.
pub struct Heartbeat {
    shared: Arc<Shared>,
}

struct Shared {
    detector: Mutex<Detector>,
    stop: AtomicBool,
}

impl Heartbeat {
    /// Starts the thread on a bound socket; `silent` is called there with each silent incarnation.
    ///
    /// # Errors
    /// When the socket or the thread cannot be set up.
    pub fn start(
        socket: UdpSocket,
        secret: Secret,
        own: u128,
        silent: impl Fn(u128) + Send + 'static,
    ) -> std::io::Result<Self> {
        socket.set_read_timeout(Some(POLL))?;
        let shared = Arc::new(Shared { detector: Mutex::default(), stop: AtomicBool::new(false) });
        let thread = Thread { socket, secret, own, sequence: 0, shared: shared.clone() };
        std::thread::Builder::new().name("heartbeat".into()).spawn(move || thread.run(&silent))?;
        Ok(Heartbeat { shared })
    }

    /// Watch a peer from now on.
    pub fn watch(&self, incarnation: u128, address: SocketAddr) {
        self.shared.lock().watch(incarnation, address, Instant::now());
    }

    /// Watch it no more.
    pub fn forget(&self, incarnation: u128) {
        self.shared.lock().forget(incarnation);
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Detector> {
        self.detector.lock().expect("no panic while the detector is held")
    }
}

struct Thread {
    socket: UdpSocket,
    secret: Secret,
    own: u128,
    sequence: u64,
    shared: Arc<Shared>,
}

impl Thread {
    fn run(mut self, silent: &dyn Fn(u128)) {
        let mut buffer = [0u8; 128];
        while !self.shared.stop.load(Ordering::Acquire) {
            if let Ok((len, from)) = self.socket.recv_from(&mut buffer) {
                self.take(&buffer[..len], from);
            }
            let effects = self.shared.lock().step(Instant::now());
            for effect in effects {
                match effect {
                    Effect::Ping(peer, address) => self.send(PING, peer, address),
                    Effect::Silent(peer) => silent(peer),
                }
            }
        }
    }

    fn take(&mut self, packet: &[u8], from: SocketAddr) {
        let Some((kind, sender, receiver)) = open(&self.secret, packet) else { return };
        if receiver != self.own {
            return; // meant for a predecessor on this port
        }
        self.shared.lock().heard(sender, Instant::now());
        if kind == PING {
            self.send(PONG, sender, from);
        }
    }

    fn send(&mut self, kind: u8, to: u128, address: SocketAddr) {
        self.sequence += 1;
        let packet = seal(&self.secret, kind, self.own, to, self.sequence);
        let _ = self.socket.send_to(&packet, address); // lost packets are what we are here for
    }
}

fn seal(secret: &Secret, kind: u8, from: u128, to: u128, sequence: u64) -> Vec<u8> {
    let mut packet = vec![kind];
    packet.extend(from.to_be_bytes());
    packet.extend(to.to_be_bytes());
    packet.extend(sequence.to_be_bytes());
    let tag = secret.sign(&[b"beat", &packet]);
    packet.extend(&tag[..TAG]);
    packet
}

fn open(secret: &Secret, packet: &[u8]) -> Option<(u8, u128, u128)> {
    if packet.len() != BODY + TAG {
        return None;
    }
    let (body, tag) = packet.split_at(BODY);
    let id = |at: usize| body[at..at + 16].try_into().ok().map(u128::from_be_bytes);
    secret.verify(tag, &[b"beat", body]).then_some((body[0], id(1)?, id(17)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: u128 = 9;

    fn detector(now: Instant) -> Detector {
        let mut detector = Detector::default();
        detector.watch(PEER, "127.0.0.1:1".parse().unwrap(), now);
        detector
    }

    fn steps(d: &mut Detector, from: Instant, millis: std::ops::Range<u64>) -> Vec<(u64, Effect)> {
        let at = |ms: u64| from + Duration::from_millis(ms);
        let due = |ms: u64| d.step(at(ms)).into_iter().map(move |e| (ms, e)).collect::<Vec<_>>();
        millis.step_by(50).flat_map(due).collect()
    }

    #[test]
    fn a_silent_peer_is_reported_once_within_two_seconds() {
        let start = Instant::now();
        let effects = steps(&mut detector(start), start, 0..4000);
        let silent: Vec<u64> =
            effects.iter().filter(|(_, e)| *e == Effect::Silent(PEER)).map(|(ms, _)| *ms).collect();
        assert_eq!(silent, [1550]);
    }

    #[test]
    fn an_answering_peer_is_pinged_each_interval_and_never_reported() {
        let start = Instant::now();
        let mut d = detector(start);
        let mut pings = 0;
        for ms in (0..6000).step_by(50) {
            let now = start + Duration::from_millis(ms);
            for effect in d.step(now) {
                assert!(matches!(effect, Effect::Ping(PEER, _)), "{effect:?}");
                pings += 1;
                d.heard(PEER, now);
            }
        }
        assert_eq!(pings, 20);
    }

    #[test]
    fn a_pause_of_our_own_accuses_nobody() {
        let start = Instant::now();
        let mut d = detector(start);
        d.step(start);
        let late = start + Duration::from_secs(30);
        assert!(d.step(late).iter().all(|e| matches!(e, Effect::Ping(..))));
        let after = steps(&mut d, late, 50..3000);
        assert!(after.contains(&(1550, Effect::Silent(PEER))));
    }

    #[test]
    fn changed_or_foreign_packets_do_not_open() {
        let secret = Secret::new("s");
        let packet = seal(&secret, PING, 1, 2, 3);
        assert_eq!(open(&secret, &packet), Some((PING, 1, 2)));
        assert_eq!(open(&Secret::new("t"), &packet), None);
        for i in 0..packet.len() {
            let mut changed = packet.clone();
            changed[i] ^= 1;
            assert_eq!(open(&secret, &changed), None, "byte {i}");
        }
        assert_eq!(open(&secret, &packet[1..]), None);
    }

    #[test]
    fn two_threads_hear_each_other_and_notice_the_end() {
        let socket = || UdpSocket::bind("127.0.0.1:0").unwrap();
        let (a, b) = (socket(), socket());
        let (to_a, to_b) = (a.local_addr().unwrap(), b.local_addr().unwrap());
        let (tx, rx) = std::sync::mpsc::channel();
        let one = Heartbeat::start(a, Secret::new("s"), 1, move |p| tx.send(p).unwrap()).unwrap();
        let two = Heartbeat::start(b, Secret::new("s"), 2, |_| ()).unwrap();
        one.watch(2, to_b);
        two.watch(1, to_a);
        assert!(rx.recv_timeout(2 * SILENCE_LIMIT).is_err(), "an answering peer was accused");
        drop(two);
        assert_eq!(rx.recv_timeout(2 * SILENCE_LIMIT), Ok(2));
    }
}
