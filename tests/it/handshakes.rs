//! The handshake under meddling: somebody on the wire changes, drops or adds bytes.

use std::time::Duration;

use mocks3::cluster::MemberInfo;
use mocks3::cluster::handshake::{self, HANDSHAKE_LIMIT, Intro, Secret, Welcome};
use mocks3::types::Service;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::chance::Chance;

fn member(name: &str) -> MemberInfo {
    MemberInfo {
        instance: name.to_owned(),
        incarnation: 7,
        services: vec![Service::Queue],
        pid: 1,
        http_url: "http://127.0.0.1:1".to_owned(),
        s3_url: None,
        data_address: None,
        cluster_address: "127.0.0.1:2".to_owned(),
    }
}

fn welcome() -> Welcome {
    Welcome { cluster_id: 5, member: member("b"), known: vec!["127.0.0.1:3".into()], refused: None }
}

/// What is done to one direction: at which byte, and what.
#[derive(Clone, Copy, Debug)]
enum Meddling {
    Flip(usize, u8),
    Drop(usize),
    Add(usize, u8),
    Cut(usize),
}

impl Meddling {
    fn by(chance: &mut Chance) -> Meddling {
        let at = chance.below(420);
        match chance.below(4) {
            0 => Meddling::Flip(at, 1 << chance.below(8)),
            1 => Meddling::Drop(at),
            2 => Meddling::Add(at, 1 << chance.below(8)),
            _ => Meddling::Cut(at),
        }
    }

    /// What goes on instead of byte `n`; `None` = nothing any more.
    fn apply(self, n: usize, byte: u8) -> Option<Vec<u8>> {
        match self {
            Meddling::Flip(at, bits) if at == n => Some(vec![byte ^ bits]),
            Meddling::Drop(at) if at == n => Some(Vec::new()),
            Meddling::Add(at, bits) if at == n => Some(vec![byte ^ bits, byte]),
            Meddling::Cut(at) if at == n => None,
            _ => Some(vec![byte]),
        }
    }
}

/// Carries bytes; says whether it changed any.
async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    meddling: Option<Meddling>,
) -> bool {
    let (mut n, mut changed) = (0, false);
    while let Ok(byte) = from.read_u8().await {
        let Some(bytes) = meddling.map_or(Some(vec![byte]), |m| m.apply(n, byte)) else {
            return true;
        };
        changed |= bytes != [byte];
        if to.write_all(&bytes).await.is_err() {
            break;
        }
        n += 1;
    }
    let _ = to.shutdown().await; // the other side may be gone
    changed
}

async fn one_round(chance: &mut Chance) -> bool {
    let (mut near, wire_near) = tokio::io::duplex(256);
    let (mut far, wire_far) = tokio::io::duplex(256);
    let secret = Secret::new("s");
    let intro = Intro { cluster_id: 5, member: member("a") };
    let there = chance.one_in(2).then(|| Meddling::by(chance));
    let back = chance.one_in(2).then(|| Meddling::by(chance));
    let dial = async {
        let dialled = handshake::dial(&mut near, &secret, &intro).await;
        drop(near);
        dialled
    };
    let accept = async {
        let accepted = handshake::accept(&mut far, &secret, |_| welcome()).await;
        drop(far);
        accepted
    };
    let (from_near, to_near) = tokio::io::split(wire_near);
    let (from_far, to_far) = tokio::io::split(wire_far);
    let wires =
        async { tokio::join!(carry(from_near, to_far, there), carry(from_far, to_near, back)) };
    let begun = tokio::time::Instant::now();
    let (dialled, accepted, (changed_there, changed_back)) = tokio::join!(dial, accept, wires);
    assert!(begun.elapsed() <= 2 * HANDSHAKE_LIMIT, "{there:?} {back:?}");
    let changed = changed_there || changed_back;
    assert!(dialled.is_err() || !changed, "the dialler believed {there:?} {back:?}");
    assert!(accepted.is_err() || !changed_there, "the acceptor believed {there:?}");
    assert!(changed || (dialled.is_ok() && accepted.is_ok()), "{dialled:?} {accepted:?}");
    changed
}

#[tokio::test(start_paused = true)]
async fn whoever_meddles_with_a_handshake_makes_it_fail_in_time() {
    let mut chance = Chance::new("handshakes", 3);
    let (mut rounds, mut changed) = (0, 0);
    while chance.goes_on() {
        changed += usize::from(one_round(&mut chance).await);
        rounds += 1;
    }
    eprintln!("{changed} of {rounds} handshakes were meddled with");
    assert!(changed > 50 && changed < rounds, "{changed} of {rounds}");
}

#[tokio::test(start_paused = true)]
async fn whatever_a_stranger_says_first_he_is_shown_out_in_time() {
    let mut chance = Chance::new("strangers", 3);
    let secret = Secret::new("s");
    let hello = [&[0, 0, 0, 38][..], b"MS3C", &[1, 0], &[7; 32]].concat();
    let signed = [&[0, 0, 0, 44][..], &[9; 32], &[4, 0, 0, 0, 0, 0, 0, 0], &[1, 2, 3, 4]].concat();
    let corpus = vec![hello.clone(), signed.clone(), b"\x16\x03\x01\x02\x00\x01\x00".to_vec()];
    let mut rounds = 0;
    while chance.goes_on() {
        let said = match chance.below(4) {
            0 => chance.bytes(300),
            1 => [hello.clone(), chance.spoil(&signed, &corpus)].concat(),
            _ => chance.spoil(&hello, &corpus),
        };
        let (mut stranger, mut ours) = tokio::io::duplex(64 * 1024);
        stranger.write_all(&said).await.unwrap();
        let begun = tokio::time::Instant::now();
        match chance.one_in(2) {
            true => {
                assert!(handshake::accept(&mut ours, &secret, |_| welcome()).await.is_err());
            }
            false => {
                let intro = Intro { cluster_id: 5, member: member("a") };
                assert!(handshake::dial(&mut ours, &secret, &intro).await.is_err());
            }
        }
        assert!(begun.elapsed() <= HANDSHAKE_LIMIT + Duration::from_millis(10), "{said:?}");
        rounds += 1;
    }
    eprintln!("{rounds} strangers");
}
