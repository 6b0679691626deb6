//! Hostile datagrams at the failure detector.

use std::net::UdpSocket;
use std::sync::mpsc;
use std::time::Duration;

use mocks3::cluster::handshake::Secret;
use mocks3::cluster::heartbeat::{Heartbeat, SILENCE_LIMIT};

use crate::chance::Chance;

const OWN: u128 = 1;
const PEER: u128 = 2;

/// A ping as a peer would send it.
fn ping(secret: &Secret, from: u128, to: u128, sequence: u64) -> Vec<u8> {
    let mut packet = vec![1];
    packet.extend(from.to_be_bytes());
    packet.extend(to.to_be_bytes());
    packet.extend(sequence.to_be_bytes());
    let tag = secret.sign(&[b"beat", &packet]);
    packet.extend(&tag[..16]);
    packet
}

/// The answer to a packet, if there is one.
fn answer(socket: &UdpSocket) -> Option<Vec<u8>> {
    let mut buffer = [0; 2048];
    socket.recv(&mut buffer).ok().map(|len| buffer[..len].to_vec())
}

#[test]
fn only_a_good_ping_is_answered_and_garbage_keeps_nobody_alive() {
    let mut chance = Chance::new("datagrams", 3);
    let secret = Secret::new("s");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (address, (tx, silent)) = (socket.local_addr().unwrap(), mpsc::channel());
    let beat = Heartbeat::start(socket, secret.clone(), OWN, move |peer| {
        let _ = tx.send(peer); // the test may be over
    })
    .unwrap();
    let us = UdpSocket::bind("127.0.0.1:0").unwrap();
    us.connect(address).unwrap();
    us.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let good = ping(&secret, PEER, OWN, 1);
    us.send(&good).unwrap();
    let pong = answer(&us).expect("a good ping is answered");
    assert_eq!((pong[0], pong.len()), (2, good.len()));

    let foreign = ping(&Secret::new("t"), PEER, OWN, 1);
    let astray = ping(&secret, PEER, 99, 1);
    // a socket of its own, so that no good answer is mistaken for one to garbage
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    stranger.connect(address).unwrap();
    stranger.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    beat.watch(PEER, stranger.local_addr().unwrap());
    let (mut sent, mut pinged) = (0, 0);
    while chance.goes_on() {
        for _ in 0..64 {
            let packet = match chance.below(5) {
                0 => chance.bytes(1500),
                1 => foreign.clone(),
                2 => astray.clone(),
                _ => chance.spoil(&good, std::slice::from_ref(&foreign)),
            };
            if packet != good {
                stranger.send(&packet).unwrap();
                sent += 1;
            }
        }
        while let Some(packet) = answer(&stranger) {
            assert_eq!(packet[0], 1, "garbage was answered: {packet:?}");
            pinged += 1;
        }
        us.send(&good).unwrap();
        assert!(answer(&us).is_some(), "the detector no longer answers after {sent} packets");
    }
    eprintln!("{sent} hostile datagrams, {pinged} pings in between");
    assert!(pinged > 3, "the detector pinged only {pinged} times");
    // good pings kept the peer alive until now; garbage alone does not
    assert!(silent.try_recv().is_err());
    let begun = std::time::Instant::now();
    while begun.elapsed() < 2 * SILENCE_LIMIT {
        stranger.send(&chance.spoil(&pong, &[])).unwrap();
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(silent.try_recv(), Ok(PEER));
}
