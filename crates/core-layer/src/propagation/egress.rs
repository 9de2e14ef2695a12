//! What may leave for which host.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How much of the trace context goes to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Egress {
    /// All that the propagators write: the trace, `tracestate` with this service's name, baggage.
    Full,
    /// The trace and span id with the flags (`traceparent`, and the headers of the same meaning
    /// where B3 or Jaeger is selected), nothing else.
    TraceOnly,
}

/// Decides what goes to which host. The default trusts loopback and private names and addresses;
/// everybody else is told the ids of the trace and no more, since baggage, `tracestate` and
/// service names describe the inside of a system.
///
/// Private are: `localhost` and names under it, names of a single label, names under `local`,
/// `internal`, `svc` (Kubernetes), and the addresses `127.0.0.0/8`, `10.0.0.0/8`, `172.16.0.0/12`,
/// `192.168.0.0/16`, `169.254.0.0/16`, `::1`, `fc00::/7`, `fe80::/10`. Names are not resolved.
///
/// ```
/// use spanweave_core::propagation::{Egress, EgressPolicy};
///
/// let policy = EgressPolicy::default().allow("*.example.com");
/// assert_eq!(policy.decide("orders"), Egress::Full);
/// assert_eq!(policy.decide("10.0.0.7"), Egress::Full);
/// assert_eq!(policy.decide("api.example.com"), Egress::Full);
/// assert_eq!(policy.decide("api.example.org"), Egress::TraceOnly);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EgressPolicy {
    allowed: Vec<Pattern>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Any,
    Host(String),
    /// With the leading dot.
    Under(String),
}

/// Top-level labels that are never delegated in public, or only inside of a cluster.
const PRIVATE_SUFFIXES: [&str; 4] = [".localhost", ".local", ".internal", ".svc"];

impl EgressPolicy {
    /// Also trusts the hosts of a pattern: a name or address (`api.example.com`), the names under
    /// a domain (`*.example.com`, without `example.com` itself), or every host (`*`). Case does
    /// not matter.
    #[must_use]
    pub fn allow(mut self, pattern: impl AsRef<str>) -> Self {
        let pattern = pattern.as_ref().trim();
        self.allowed.push(match pattern.strip_prefix('*') {
            Some("") => Pattern::Any,
            Some(suffix) if suffix.starts_with('.') => Pattern::Under(suffix.to_owned()),
            _ => Pattern::Host(normalize(pattern).to_owned()),
        });
        self
    }

    /// What goes to `host`, given as a URL has it: a name or an address, IPv6 with or without
    /// brackets, without a port.
    pub fn decide(&self, host: &str) -> Egress {
        let host = normalize(host);
        if is_private(host) || self.allowed.iter().any(|pattern| pattern.matches(host)) {
            Egress::Full
        } else {
            Egress::TraceOnly
        }
    }
}

impl Pattern {
    fn matches(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Host(name) => name.eq_ignore_ascii_case(host),
            Self::Under(suffix) => is_under(host, suffix),
        }
    }
}

/// Without the brackets and zone of an IPv6 address and the final dot of a name.
fn normalize(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.split_once('%').map_or(address, |(address, _)| address),
        None => host.strip_suffix('.').unwrap_or(host),
    }
}

fn is_under(host: &str, suffix: &str) -> bool {
    let Some(cut) = host.len().checked_sub(suffix.len()).filter(|cut| *cut > 0) else {
        return false;
    };
    host.get(cut..).is_some_and(|tail| tail.eq_ignore_ascii_case(suffix))
}

fn is_private(host: &str) -> bool {
    if let Ok(address) = host.parse::<IpAddr>() {
        return match address.to_canonical() {
            IpAddr::V4(address) => is_private_v4(address),
            IpAddr::V6(address) => is_private_v6(address),
        };
    }
    let last = host.rsplit('.').next().unwrap_or_default();
    let is_name =
        host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    if !is_name || last.is_empty() || is_number(last) {
        return false;
    }
    !host.contains('.') || PRIVATE_SUFFIXES.iter().any(|suffix| is_under(host, suffix))
}

/// Resolvers take `134744072`, `0x8080808` and `8.525320` for addresses: such a host is no name.
fn is_number(label: &str) -> bool {
    label.bytes().all(|byte| byte.is_ascii_digit())
        || label.get(..2).is_some_and(|prefix| prefix.eq_ignore_ascii_case("0x"))
}

fn is_private_v4(address: Ipv4Addr) -> bool {
    address.is_loopback() || address.is_private() || address.is_link_local()
}

fn is_private_v6(address: Ipv6Addr) -> bool {
    address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn private_hosts_get_everything_and_public_ones_the_ids() {
        let full = [
            "localhost",
            "LOCALHOST",
            "localhost.",
            "a.localhost",
            "users",
            "printer.local",
            "db.internal",
            "orders.shop.svc",
            "orders.shop.svc.cluster.local",
            "127.0.0.1",
            "127.8.9.10",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "169.254.169.254",
            "::1",
            "[::1]",
            "[fe80::1%25eth0]",
            "fd00::1",
            "[fc00::1]",
            "[::ffff:10.0.0.1]",
        ];
        for host in full {
            assert_eq!(EgressPolicy::default().decide(host), Egress::Full, "{host}");
        }
        let public = [
            "example.com",
            "localhost.example.com",
            "notlocal.example",
            "xlocalhost.com",
            "evil.com.",
            "8.8.8.8",
            "172.32.0.1",
            "11.0.0.1",
            "192.169.0.1",
            "169.253.0.1",
            "[2001:db8::1]",
            "::ffff:8.8.8.8",
            "134744072",
            "0x08080808",
            "8.525320",
            "0x8.8.8.0x8",
            "",
            ".",
            "..",
            "[",
            "[]",
            "a:b",
            ".svc",
            ".local",
        ];
        for host in public {
            assert_eq!(EgressPolicy::default().decide(host), Egress::TraceOnly, "{host}");
        }
    }

    #[test]
    fn patterns_allow_a_host_a_domain_or_all() {
        let policy = EgressPolicy::default()
            .allow("api.example.org")
            .allow("*.Example.com")
            .allow("[2001:db8::1]");
        for (host, expected) in [
            ("API.example.org", Egress::Full),
            ("b.api.example.org", Egress::TraceOnly),
            ("a.example.com", Egress::Full),
            ("a.b.EXAMPLE.com.", Egress::Full),
            ("example.com", Egress::TraceOnly),
            ("badexample.com", Egress::TraceOnly),
            ("a.example.com.evil.net", Egress::TraceOnly),
            ("2001:db8::1", Egress::Full),
        ] {
            assert_eq!(policy.decide(host), expected, "{host}");
        }
        assert_eq!(EgressPolicy::default().allow("*").decide("a.com"), Egress::Full);
    }

    proptest! {
        #[test]
        fn arbitrary_hosts_never_panic(host in ".*", pattern in ".*") {
            let policy = EgressPolicy::default().allow(&pattern);
            let allowed = policy.decide(&host);
            prop_assert!(allowed == Egress::Full || !is_private(normalize(&host)));
        }
    }
}
