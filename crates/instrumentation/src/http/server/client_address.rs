//! Who the client is, behind proxies that are trusted to say so.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use http::{HeaderMap, HeaderName, HeaderValue, header::FORWARDED};

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Addresses that are looked at in one request: what stands further left was written by somebody
/// who is further away.
const MAX_HOPS: usize = 32;

/// The networks of the proxies whose `Forwarded` and `X-Forwarded-For` are believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TrustedProxies(Vec<Network>);

/// A text that is neither an address nor a network (`10.0.0.0/8`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidNetwork(String);

impl fmt::Display for InvalidNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is neither an address nor a network such as 10.0.0.0/8", self.0)
    }
}

impl std::error::Error for InvalidNetwork {}

impl TrustedProxies {
    pub(super) fn parse<N: AsRef<str>>(
        networks: impl IntoIterator<Item = N>,
    ) -> Result<Self, InvalidNetwork> {
        networks
            .into_iter()
            .map(|network| network.as_ref().parse())
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The client's address. Read from the right, where the nearest proxy wrote, as far as the
    /// proxies are trusted: the first address that is none of theirs.
    pub(super) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        if self.0.is_empty() || !self.trusts(client) {
            return client;
        }
        let (name, node): (_, fn(&str) -> Option<IpAddr>) = if headers.contains_key(FORWARDED) {
            (&FORWARDED, forwarded)
        } else {
            (&X_FORWARDED_FOR, node)
        };
        let lines = headers.get_all(name);
        let hops =
            lines.iter().rev().filter_map(|line| text(line)).flat_map(|line| line.rsplit(','));
        for hop in hops.take(MAX_HOPS) {
            // What hides itself (`unknown`, `_name`) or is no address hides what is behind it.
            let Some(address) = node(hop.trim()) else { break };
            client = address.to_canonical();
            if !self.trusts(client) {
                break;
            }
        }
        client
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }
}

fn text(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok()
}

/// The `for` of one element of `Forwarded` (RFC 7239).
fn forwarded(element: &str) -> Option<IpAddr> {
    let pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    let (_, value) = { pairs }.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
    let value = value.trim();
    node(value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value))
}

/// An address, with or without a port; IPv6 with or without brackets.
fn node(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address.ip());
    }
    text.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    /// At most 32 or 128, by the family.
    prefix: u32,
}

impl Network {
    fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let differ = u32::from(network) ^ u32::from(address);
                differ.leading_zeros() >= self.prefix
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let differ = u128::from(network) ^ u128::from(address);
                differ.leading_zeros() >= self.prefix
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let parse = || {
            let (address, prefix) = match text.trim().split_once('/') {
                Some((address, prefix)) => (address, Some(prefix)),
                None => (text.trim(), None),
            };
            let address: IpAddr = address.parse().ok()?;
            let bits = if address.is_ipv4() { 32 } else { 128 };
            let prefix = match prefix {
                Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                    digits.parse().ok().filter(|prefix| *prefix <= bits)?
                }
                Some(_) => return None,
                None => bits,
            };
            Some(Self { address, prefix })
        };
        parse().ok_or_else(|| InvalidNetwork(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn client(proxies: &[&str], peer: &str, headers: &[(&'static str, &str)]) -> String {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        TrustedProxies::parse(proxies).unwrap().client(peer.parse().unwrap(), &map).to_string()
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let forged = [("x-forwarded-for", "1.2.3.4"), ("forwarded", "for=1.2.3.4")];
        assert_eq!(client(&[], "10.0.0.1", &forged), "10.0.0.1");
        assert_eq!(client(&["192.168.0.0/16"], "10.0.0.1", &forged), "10.0.0.1");
        assert_eq!(client(&["10.0.0.0/8"], "10.0.0.1", &forged), "1.2.3.4");
    }

    #[test]
    fn the_client_is_the_first_from_the_right_that_is_no_proxy() {
        let proxies = ["10.0.0.0/8", "fd00::/8"];
        for (header, value, expected) in [
            ("x-forwarded-for", "6.6.6.6, 9.9.9.9, 10.1.1.1", "9.9.9.9"),
            ("x-forwarded-for", "6.6.6.6,9.9.9.9:443 ,10.1.1.1", "9.9.9.9"),
            ("x-forwarded-for", "10.2.2.2, 10.1.1.1", "10.2.2.2"),
            ("x-forwarded-for", "9.9.9.9, what", "10.0.0.1"),
            ("x-forwarded-for", "", "10.0.0.1"),
            ("forwarded", "for=9.9.9.9;proto=https, For=10.1.1.1", "9.9.9.9"),
            ("forwarded", r#"for="[2001:db8::1]:4711""#, "2001:db8::1"),
            ("forwarded", r#"by=x;for="[2001:db8::1]", for="[fd00::2]""#, "2001:db8::1"),
            ("forwarded", "for=9.9.9.9, for=_hidden", "10.0.0.1"),
            ("forwarded", "for=9.9.9.9, for=unknown, for=10.1.1.1", "10.1.1.1"),
            ("forwarded", "proto=https", "10.0.0.1"),
            ("x-forwarded-for", "::ffff:9.9.9.9", "9.9.9.9"),
        ] {
            assert_eq!(client(&proxies, "10.0.0.1", &[(header, value)]), expected, "{value}");
        }
        let lines = [("x-forwarded-for", "9.9.9.9"), ("x-forwarded-for", "10.1.1.1")];
        assert_eq!(client(&proxies, "::ffff:10.0.0.1", &lines), "9.9.9.9");
    }

    #[test]
    fn networks_are_addresses_with_a_legal_prefix() {
        for good in ["10.0.0.0/8", "10.0.0.1", "0.0.0.0/0", "::/0", "fd00::/128", " 10.0.0.1/32 "] {
            assert!(TrustedProxies::parse([good]).is_ok(), "{good}");
        }
        for bad in ["", "10.0.0.0/33", "10.0.0.0/+8", "10.0.0.0/", "10.0.0", "host", "::/129", "/8"]
        {
            assert!(TrustedProxies::parse([bad]).is_err(), "{bad}");
        }
        assert_eq!(client(&["0.0.0.0/0"], "8.8.8.8", &[("x-forwarded-for", "1.1.1.1")]), "1.1.1.1");
        assert_eq!(
            client(&["10.1.0.0/15"], "10.2.0.1", &[("x-forwarded-for", "1.1.1.1")]),
            "10.2.0.1"
        );
    }

    proptest! {
        #[test]
        fn arbitrary_headers_never_panic(value in prop::collection::vec(any::<u8>(), 0..200)) {
            let proxies = TrustedProxies::parse(["0.0.0.0/0", "::/0"]).unwrap();
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                for name in [&FORWARDED, &X_FORWARDED_FOR] {
                    let mut headers = HeaderMap::new();
                    headers.insert(name, value.clone());
                    proxies.client(IpAddr::from([10, 0, 0, 1]), &headers);
                }
            }
        }
    }
}
