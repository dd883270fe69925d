//! Who the client is: the peer of the connection, or what trusted proxies say of it.
//!
//! `X-Forwarded-For` is read from the right, because each proxy appends the address it saw. The
//! right-most address that is not itself trusted was seen by a trusted proxy. Everything to its
//! left is the client's own claim.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::http::field;

/// A network in CIDR notation, such as `10.0.0.0/8` or `fd00::/8`; a lone address is a network of
/// one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Network {
    address: IpAddr,
    prefix: u32,
}

impl Network {
    /// Reads a network. No bit of its address may be set after the prefix.
    pub fn parse(text: &str) -> Option<Network> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(digits) if digits.starts_with('+') => return None,
            Some(digits) => digits.parse().ok()?,
            None => width,
        };
        let network = Network { address, prefix };
        (prefix <= width && network.masked(address) == bits(address)).then_some(network)
    }

    /// Reads a comma-separated list of networks, or tells which part is none.
    pub fn parse_list(text: &str) -> Result<Vec<Network>, &str> {
        let parts = text.split(',').map(str::trim);
        let parts = parts.filter(|part| !part.is_empty());
        parts.map(|part| Network::parse(part).ok_or(part)).collect()
    }

    /// Whether an address lies in the network.
    pub fn contains(self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4() && self.masked(address) == bits(self.address)
    }

    /// The bits of the address that this network's prefix covers.
    fn masked(self, address: IpAddr) -> u128 {
        let host_bits = if address.is_ipv4() { 32 } else { 128 } - self.prefix;
        bits(address) & u128::MAX.checked_shl(host_bits).unwrap_or(0)
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// Whether an address lies in one of the trusted networks.
pub fn is_trusted(address: IpAddr, trusted: &[Network]) -> bool {
    trusted.iter().any(|network| network.contains(address))
}

/// The address of the client that `peer` speaks for, given the values of the `X-Forwarded-For`
/// fields in the order they came.
///
/// An element that is no address ends the search: what stands to its left cannot be believed.
pub fn client<'a>(
    peer: IpAddr,
    trusted: &[Network],
    forwarded: impl DoubleEndedIterator<Item = &'a [u8]>,
) -> IpAddr {
    let mut client = peer;
    let mut claims = forwarded.rev().flat_map(|value| field::list(value).rev());
    while is_trusted(client, trusted) {
        match claims.next().and_then(address) {
            Some(claimed) => client = claimed,
            None => break,
        }
    }
    client
}

/// Reads an address as proxies write it: alone, in brackets, or with a port.
fn address(part: &[u8]) -> Option<IpAddr> {
    let part = str::from_utf8(part).ok()?;
    let bare = part
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let address = part
        .parse()
        .or_else(|_| part.parse().map(|with_port: SocketAddr| with_port.ip()))
        .or_else(|_| bare.unwrap_or_default().parse::<Ipv6Addr>().map(IpAddr::V6));
    address.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        for good in [
            "10.0.0.0/8",
            "0.0.0.0/0",
            "::/0",
            "192.168.1.7",
            "::1",
            "fd00::/8",
            "10.1.2.3/32",
        ] {
            assert!(Network::parse(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "10.0.0.0/33",
            "10.0.0.1/8",
            "::/129",
            "10.0.0/8",
            "a",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "::1/0",
        ] {
            assert!(Network::parse(bad).is_none(), "{bad}");
        }
        assert_eq!(Network::parse_list(" 10.0.0.0/8, ::1 ,").unwrap().len(), 2);
        assert_eq!(Network::parse_list("10.0.0.0/8,x"), Err("x"));
        assert!(
            Network::parse("0.0.0.0/0")
                .unwrap()
                .contains([9, 9, 9, 9].into())
        );
        assert!(
            !Network::parse("0.0.0.0/0")
                .unwrap()
                .contains(IpAddr::V6(Ipv6Addr::LOCALHOST))
        );
        assert!(
            !Network::parse("10.0.0.0/8")
                .unwrap()
                .contains([11, 0, 0, 1].into())
        );
    }

    #[track_caller]
    fn check(trusted: &str, peer: &str, forwarded: &[&str], expected: &str) {
        let trusted = Network::parse_list(trusted).unwrap();
        let forwarded = forwarded.iter().map(|value| value.as_bytes());
        assert_eq!(
            client(peer.parse().unwrap(), &trusted, forwarded),
            expected.parse::<IpAddr>().unwrap()
        );
    }

    #[test]
    fn clients() {
        check("", "10.0.0.1", &["1.2.3.4"], "10.0.0.1");
        check("10.0.0.0/8", "9.9.9.9", &["1.2.3.4"], "9.9.9.9");
        check("10.0.0.0/8", "10.0.0.1", &[], "10.0.0.1");
        check("10.0.0.0/8", "10.0.0.1", &["1.2.3.4"], "1.2.3.4");
        check("10.0.0.0/8", "10.0.0.1", &["6.6.6.6, 1.2.3.4"], "1.2.3.4");
        check(
            "10.0.0.0/8",
            "10.0.0.1",
            &["6.6.6.6", "1.2.3.4 ,10.0.0.2"],
            "1.2.3.4",
        );
        check("10.0.0.0/8", "10.0.0.1", &["10.0.0.3"], "10.0.0.3");
        check(
            "10.0.0.0/8",
            "10.0.0.1",
            &["1.2.3.4, junk, 10.0.0.2"],
            "10.0.0.2",
        );
        check(
            "10.0.0.0/8",
            "10.0.0.1",
            &["1.2.3.4, , 10.0.0.5"],
            "1.2.3.4",
        );
        check("::1,10.0.0.0/8", "::1", &["fd00::7"], "fd00::7");
        check("::1", "::1", &["[fd00::7]:443"], "fd00::7");
        check("::1", "::1", &["[fd00::7]"], "fd00::7");
        check("::1", "::1", &["1.2.3.4:5"], "1.2.3.4");
        check("::1", "::1", &["::ffff:1.2.3.4"], "1.2.3.4");
        check("::1", "::1", &[""], "::1");
        check("::1", "::1", &["junk"], "::1");
        check("::1", "::1", &[", ,"], "::1");
        check("::1", "::1", &["1.2.3.4,,::1,"], "1.2.3.4");
        check("::1", "::1", &["", "1.2.3.4", "", "::1"], "1.2.3.4");
        check(
            "fd00::/8",
            "fd00::1",
            &["2001:db8::1, fd00::5"],
            "2001:db8::1",
        );
        check(
            "9.9.9.9",
            "9.9.9.9",
            &["1.2.3.4, ::ffff:9.9.9.9"],
            "1.2.3.4",
        );
        check("127.0.0.2/31", "127.0.0.1", &["1.2.3.4"], "127.0.0.1");
        check("127.0.0.0/30", "127.0.0.1", &["1.2.3.4"], "1.2.3.4");
        check("0.0.0.0/0", "127.0.0.1", &["1.2.3.4, 5.6.7.8"], "1.2.3.4");
    }
}
