//! Where a node listens, and how that is told to others.
//!
//! Used when a node starts, before it binds anything. Plain functions.

use std::net::{IpAddr, SocketAddr};

use anyhow::{bail, ensure};

/// All addresses that a node is to listen on, and the one under which others reach it.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// One for each service.
    pub http: Vec<SocketAddr>,
    /// For other members (TCP and UDP).
    pub cluster: SocketAddr,
    /// For object data.
    pub data: SocketAddr,
    /// What is told to others instead of a wildcard (`0.0.0.0`, `[::]`), which is no place to call.
    pub advertise: Option<IpAddr>,
}

impl Addresses {
    /// Checks what a node may be told to listen on. The built-in keys are public: they are good on
    /// loopback only.
    ///
    /// # Errors
    /// An address beyond loopback with the built-in keys; a wildcard without `advertise`; an
    /// `advertise` that is a wildcard itself.
    pub fn check(&self, default_user: bool) -> anyhow::Result<()> {
        let open = self.http.iter().find(|a| !a.ip().is_loopback());
        if let (Some(address), true) = (open, default_user) {
            bail!(
                "refusing to listen on {address} with the public default keys: set \
                 s3.default_user = false and add your own [[s3.users]], or listen on 127.0.0.1"
            );
        }
        if let Some(own) = self.advertise {
            ensure!(!own.is_unspecified(), "--advertise {own}: nobody can call that address");
        }
        let rest = [&self.cluster, &self.data];
        let wildcard = self.http.iter().chain(rest).find(|a| a.ip().is_unspecified());
        if let (Some(address), None) = (wildcard, self.advertise) {
            bail!(
                "{address} is no address that others can call: tell them this node's own with \
                 --advertise, such as --advertise 192.0.2.7"
            );
        }
        Ok(())
    }

    /// Whether an advertised address is told instead of this one: of a wildcard always. One of
    /// loopback also stands for any other of loopback, so that a proxy can stand between nodes.
    fn stands_for(bound: IpAddr, advertised: IpAddr) -> bool {
        bound.is_unspecified() || (bound.is_loopback() && advertised.is_loopback())
    }

    /// What others are told of a socket.
    pub fn told(&self, bound: SocketAddr) -> SocketAddr {
        match self.advertise {
            Some(ip) if Self::stands_for(bound.ip(), ip) => SocketAddr::new(ip, bound.port()),
            _ => bound,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(http: &str, cluster: &str, data: &str, advertise: Option<&str>) -> Addresses {
        let parse = |text: &str| text.parse().unwrap();
        let advertise = advertise.map(|ip| ip.parse().unwrap());
        Addresses { http: vec![parse(http)], cluster: parse(cluster), data: parse(data), advertise }
    }

    #[test]
    fn a_wildcard_needs_an_address_that_others_can_call() {
        let (home, any, any6) = ("127.0.0.1:1", "0.0.0.0:2", "[::]:3");
        let rows = [
            ([home, home, home], None, Ok(())),
            ([any, home, home], None, Err("0.0.0.0:2 is no address")),
            ([home, any6, home], None, Err("[::]:3 is no address")),
            ([home, home, any], None, Err("--advertise 192.0.2.7")),
            ([any, any6, any], Some("10.0.0.7"), Ok(())),
            ([any, any6, any], Some("0.0.0.0"), Err("nobody can call")),
            ([home, home, home], Some("::"), Err("nobody can call")),
        ];
        for ([http, cluster, data], advertise, expected) in rows {
            let got = addresses(http, cluster, data, advertise).check(false);
            match (got, expected) {
                (Ok(()), Ok(())) => {}
                (Err(got), Err(part)) => assert!(got.to_string().contains(part), "{got}"),
                (got, expected) => panic!("{got:?}, expected {expected:?}"),
            }
        }
    }

    #[test]
    fn only_wildcards_and_loopback_are_told_as_something_else() {
        let of = |advertise| addresses("0.0.0.0:1", "0.0.0.0:1", "0.0.0.0:1", advertise);
        let told = |advertise, bound: &str| of(advertise).told(bound.parse().unwrap()).to_string();
        assert_eq!(told(Some("10.0.0.7"), "0.0.0.0:80"), "10.0.0.7:80");
        assert_eq!(told(Some("10.0.0.7"), "127.0.0.1:80"), "127.0.0.1:80");
        assert_eq!(told(Some("127.0.0.7"), "10.0.0.1:80"), "10.0.0.1:80");
        assert_eq!(told(Some("127.0.0.7"), "127.0.0.1:80"), "127.0.0.7:80");
        assert_eq!(told(Some("fd00::7"), "[::]:80"), "[fd00::7]:80");
        assert_eq!(told(None, "192.0.2.1:80"), "192.0.2.1:80");
    }
}
