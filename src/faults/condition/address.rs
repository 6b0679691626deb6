//! Addresses: one, or a network. An IPv4 address that is written within IPv6 (`::ffff:10.0.0.7`, as
//! a socket of both kinds reports it) is the IPv4 address.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::operator::{Operand, Operator};
use super::test::Test;
use super::{Wrong, wrong};

/// Whether a test holds for an address. `eq`, `ne` and `in` are about networks (an address is one
/// of itself), others about the text.
pub fn holds(test: &Test, ip: Option<IpAddr>) -> bool {
    let Some(ip) = ip.map(|ip| ip.to_canonical()) else { return test.holds(None, false) };
    let within = |all: &[IpNet]| all.iter().any(|network| network.contains(&ip));
    match test.operator() {
        Operator::Eq | Operator::In => networks(test.value()).is_ok_and(|all| within(&all)),
        Operator::Ne => networks(test.value()).is_ok_and(|all| !all.is_empty() && !within(&all)),
        operator => !operator.is_order() && test.holds(Some(&ip.to_string()), false),
    }
}

/// Whether a test of an address makes sense.
///
/// # Errors
/// The field, and what would be right.
pub fn check(test: &Test) -> Result<(), Wrong> {
    test.check(|operator| !operator.is_order())?;
    match test.operator() {
        Operator::Eq | Operator::Ne | Operator::In => networks(test.value()).map(|_| ()),
        _ => Ok(()),
    }
}

/// The networks of a value.
///
/// # Errors
/// Which is none.
pub fn networks(value: &Operand) -> Result<Vec<IpNet>, Wrong> {
    let network = |text: &str| {
        text.parse().or_else(|_| text.parse().map(|ip: IpAddr| IpNet::from(ip))).or_else(|_| {
            let expected = "expected an address like 10.0.0.7 or a network like 10.0.0.0/8";
            wrong("value", format!("{expected}, got {text:?}"))
        })
    };
    value.all().iter().map(|value| network(&value.text()).map(canonical)).collect()
}

/// The IPv4 network, where one is written within IPv6.
fn canonical(network: IpNet) -> IpNet {
    let v4 = |network: Ipv6Net| {
        let ip = network.addr().to_ipv4_mapped()?;
        Ipv4Net::new(ip, network.prefix_len().checked_sub(96)?).ok()
    };
    match network {
        IpNet::V6(network) => v4(network).map_or(IpNet::V6(network), IpNet::V4),
        IpNet::V4(_) => network,
    }
}
