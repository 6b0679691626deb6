//! Whom a flood may hit: this machine and the members of the cluster, nobody else (FLOOD-1).

use std::net::{IpAddr, SocketAddr};

use super::super::effect::Refusal;

/// How many members a refusal names.
const NAMED: usize = 8;

/// Whether a flood may connect to `target`: a loopback address (127.0.0.0/8 or `::1`) or one of
/// `allowed`, the addresses of the cluster's members, with a port. An IPv4 address inside of an
/// IPv6 address counts as what it is.
///
/// # Errors
/// [`Refusal::Invalid`] with the address and what would be right.
pub fn check(target: SocketAddr, allowed: &[IpAddr]) -> Result<(), Refusal> {
    let ip = target.ip().to_canonical();
    let member = allowed.iter().any(|a| a.to_canonical() == ip);
    if target.port() != 0 && one_host(ip) && (ip.is_loopback() || member) {
        return Ok(());
    }
    let named: Vec<String> = allowed.iter().take(NAMED).map(IpAddr::to_string).collect();
    let members = match allowed.len() {
        0 => "of which none are known".to_owned(),
        n if n > NAMED => format!("{} and {} more", named.join(", "), n - NAMED),
        _ => named.join(", "),
    };
    Err(Refusal::Invalid(format!(
        "{target} is no target of a flood: expected a port other than 0 of this machine \
         (127.0.0.0/8, ::1) or of a member of the cluster ({members})"
    )))
}

/// Not an address of nobody or of many, though somebody should have put it among the members.
fn one_host(ip: IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    !ip.is_unspecified() && !ip.is_multicast() && !broadcast
}

#[cfg(test)]
mod tests {
    use super::*;

    fn right(target: &str, allowed: &[&str]) -> bool {
        let allowed: Vec<IpAddr> = allowed.iter().map(|a| a.parse().unwrap()).collect();
        check(target.parse().unwrap(), &allowed).is_ok()
    }

    #[test]
    fn this_machine_and_members_are_targets_and_nobody_else() {
        let rows: &[(&str, &[&str], bool)] = &[
            ("127.0.0.1:80", &[], true),
            ("127.255.3.4:80", &[], true),
            ("[::1]:80", &[], true),
            ("[::ffff:127.0.0.1]:80", &[], true),
            ("10.0.0.1:80", &["10.0.0.1", "10.0.0.2"], true),
            ("[::ffff:10.0.0.1]:80", &["10.0.0.1"], true),
            ("[fd00::1]:80", &["fd00::1"], true),
            ("127.0.0.1:0", &[], false),
            ("8.8.8.8:80", &[], false),
            ("8.8.8.8:80", &["10.0.0.1"], false),
            ("[::ffff:8.8.8.8]:80", &[], false),
            ("10.0.0.3:80", &["10.0.0.1", "10.0.0.2"], false),
            ("0.0.0.0:80", &["0.0.0.0"], false),
            ("[::]:80", &["::"], false),
            ("255.255.255.255:80", &["255.255.255.255"], false),
            ("224.0.0.1:80", &["224.0.0.1"], false),
            ("128.0.0.1:80", &[], false),
            ("[::2]:80", &[], false),
        ];
        for (target, allowed, expected) in rows {
            assert_eq!(right(target, allowed), *expected, "{target} with {allowed:?}");
        }
    }

    #[test]
    fn a_refusal_names_the_address_and_what_would_be_right() {
        let allowed: Vec<IpAddr> = (1..=10).map(|n| IpAddr::from([10, 0, 0, n])).collect();
        let refused = check("8.8.8.8:443".parse().unwrap(), &allowed).unwrap_err().to_string();
        for part in ["8.8.8.8:443", "127.0.0.0/8", "::1", "10.0.0.1, ", "10.0.0.8", "2 more"] {
            assert!(refused.contains(part), "{part} is not in: {refused}");
        }
        assert!(!refused.contains("10.0.0.9"));
    }
}
