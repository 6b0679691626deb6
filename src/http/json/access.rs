//! Who may use the JSON APIs: loopback always, trusted networks always, others with the token.
//!
//! Used by [`super::frame`]. The decision is a pure function of peer, header and path.
//!
//! - `ACCESS-1` a request whose peer is not known is treated as one from outside;
//! - `ACCESS-2` with no token configured, nobody from outside gets in;
//! - `ACCESS-3` `/health` is told to everybody: it says no more than that the service is up.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::{HeaderMap, header};

use crate::config::Network;

/// The address that a request came from; the accept loop puts it into the request's extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// The rule of one node. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    token: Arc<str>,
    trusted: Arc<[Network]>,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is served.
    Pass,
    /// It needs a token and has none.
    NoToken,
    /// Its token is wrong, or none is configured.
    WrongToken,
}

impl Gate {
    /// A gate with this token (empty = none) and these trusted networks.
    pub fn new(token: &str, trusted: &[Network]) -> Self {
        Gate { token: token.into(), trusted: trusted.into() }
    }

    /// Whether a request is served.
    pub fn decide(&self, peer: Option<IpAddr>, path: &str, headers: &HeaderMap) -> Decision {
        let inside = |ip: IpAddr| {
            ip.to_canonical().is_loopback() || self.trusted.iter().any(|n| n.contains(ip))
        };
        if path == "/health" || peer.is_some_and(inside) {
            return Decision::Pass;
        }
        match bearer(headers) {
            None => Decision::NoToken,
            Some(given) if !self.token.is_empty() && equal(given, self.token.as_bytes()) => {
                Decision::Pass
            }
            Some(_) => Decision::WrongToken, // ACCESS-2
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token.trim_ascii())
}

/// Compares in a time that does not depend on where they differ.
fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |diff, (a, b)| diff | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "a-token-of-16-chars";

    #[test]
    fn outsiders_need_the_token_and_insiders_do_not() {
        let network = "172.20.0.0/16".parse().unwrap();
        let (open, shut) = (Gate::new(TOKEN, &[network]), Gate::new("", &[]));
        let right = format!("Bearer {TOKEN}");
        let longer = format!("Bearer {TOKEN}x");
        let rows = [
            (&open, "127.0.0.1", "", Decision::Pass),
            (&open, "127.9.9.9", "", Decision::Pass),
            (&open, "::1", "", Decision::Pass),
            (&open, "::ffff:127.0.0.1", "", Decision::Pass),
            (&open, "172.20.1.2", "", Decision::Pass),
            (&open, "172.21.1.2", "", Decision::NoToken),
            (&open, "10.0.0.1", right.as_str(), Decision::Pass),
            (&open, "10.0.0.1", "bearer   a-token-of-16-chars", Decision::Pass),
            (&open, "10.0.0.1", longer.as_str(), Decision::WrongToken),
            (&open, "10.0.0.1", "Bearer ", Decision::WrongToken),
            (&open, "10.0.0.1", "Basic YTpi", Decision::NoToken),
            (&open, "", "", Decision::NoToken), // ACCESS-1
            (&shut, "127.0.0.1", "", Decision::Pass),
            (&shut, "10.0.0.1", "Bearer ", Decision::WrongToken), // ACCESS-2
            (&shut, "10.0.0.1", right.as_str(), Decision::WrongToken),
        ];
        for (gate, peer, authorization, expected) in rows {
            let mut headers = HeaderMap::new();
            if !authorization.is_empty() {
                headers.insert(header::AUTHORIZATION, authorization.parse().unwrap());
            }
            let got = gate.decide(peer.parse().ok(), "/api/v1/stats", &headers);
            assert_eq!(got, expected, "{peer} {authorization:?}");
            let health = gate.decide(peer.parse().ok(), "/health", &headers);
            assert_eq!(health, Decision::Pass, "ACCESS-3");
        }
    }
}
