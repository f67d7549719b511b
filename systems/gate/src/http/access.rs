//! Which pages may talk to the server, and which callers count as local: never one behind a proxy.
//!
//! A browser lets any page send requests to any server, this one included; `Origin` says which page it is.
//! And any name may be made to point at 127.0.0.1, so a server on loopback also looks at `Host`.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName, header};
use kaos_kernel::fault::{Fault, FaultKind};

use crate::http::proxies::Proxies;

/// What the configuration says about web pages and local callers.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Origins of pages that may connect besides the server's own, such as `https://play.example.com`; `*` allows all.
    pub origins: Vec<String>,
    /// The HTTP door listens on loopback only.
    pub loopback: bool,
    /// The proxies whose word on their caller's address is believed.
    pub proxies: Proxies,
    /// `/metrics` is open to everyone, not only to this machine.
    pub metrics_open: bool,
    /// The playground is open to everyone, not only to this machine.
    pub playground_open: bool,
}

impl Access {
    /// Looks at `Host` and `Origin`. Gives the origin to name in the answer when it is another than the server's own.
    ///
    /// # Errors
    /// [`FaultKind::Denied`] with a sentence that says what to configure.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<Option<String>, Fault> {
        let host = text(headers, &header::HOST);
        if let Some(host) = host.filter(|_| self.loopback)
            && !is_loopback_name(host)
            && !self.origins.iter().any(|origin| origin == "*" || host_of(origin).eq_ignore_ascii_case(host))
        {
            return Err(Fault::new(
                FaultKind::Denied,
                format!(
                    "this server listens on loopback and does not know the host `{}`: add its origin to `http.origins`",
                    kaos_wire::limits::cut(host, 100)
                ),
            ));
        }
        let Some(origin) = text(headers, &header::ORIGIN) else { return Ok(None) };
        let own = host.is_some_and(|host| origin != "null" && host_of(origin).eq_ignore_ascii_case(host));
        if own {
            return Ok(None);
        }
        let named = self.origins.iter().any(|known| known == "*" || known.eq_ignore_ascii_case(origin));
        if !named {
            return Err(Fault::new(
                FaultKind::Denied,
                format!(
                    "pages of `{}` may not connect to this server: add that origin to `http.origins`",
                    kaos_wire::limits::cut(origin, 100)
                ),
            ));
        }
        Ok(Some(origin.to_owned()))
    }

    /// Returns whether this request was sent from this machine, as far as the nearest sender tells. A request that a proxy
    /// passed on never counts, trusted proxy or not: a proxy on this machine may call for anybody.
    pub(crate) fn is_here(&self, remote: IpAddr, headers: &HeaderMap) -> bool {
        let passed_on = FORWARDED.iter().any(|name| headers.contains_key(*name));
        remote.to_canonical().is_loopback() && !self.proxies.trust(remote) && !passed_on
    }

    /// Returns whether this request comes from this machine, by its address and by the host name that it asks for.
    pub(crate) fn is_local(&self, remote: IpAddr, headers: &HeaderMap) -> bool {
        let host = text(headers, &header::HOST);
        self.is_here(remote, headers) && host.is_none_or(is_loopback_name)
    }
}

/// What proxies add to the requests that they pass on.
const FORWARDED: [&str; 4] = ["x-forwarded-for", "forwarded", "via", "x-real-ip"];

/// A header as text; one that is not ASCII counts as a foreign one.
fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap_or("?"))
}

/// `host:port` of `scheme://host:port`.
fn host_of(origin: &str) -> &str {
    origin.split_once("://").map_or(origin, |(_, host)| host)
}

fn is_loopback_name(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(host: &str, origin: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [(header::HOST, host), (header::ORIGIN, origin)] {
            if !value.is_empty() {
                headers.insert(name, value.parse().expect("a value"));
            }
        }
        headers
    }

    #[test]
    fn pages_of_the_server_itself_and_named_ones_may_connect() {
        let access =
            Access { origins: vec!["https://play.example.com".into()], loopback: true, ..Access::default() };
        for (host, origin, expected) in [
            ("127.0.0.1:7350", "", Some(None)),
            ("", "", Some(None)),
            ("127.0.0.1:7350", "http://127.0.0.1:7350", Some(None)),
            ("localhost:7350", "http://LOCALHOST:7350", Some(None)),
            ("[::1]:7350", "http://[::1]:7350", Some(None)),
            ("127.0.0.1:7350", "https://play.example.com", Some(Some("https://play.example.com"))),
            ("play.example.com", "https://play.example.com", Some(None)),
            // Another port is another page, a foreign page is foreign, no page is none.
            ("127.0.0.1:7350", "http://127.0.0.1:8000", None),
            ("127.0.0.1:7350", "https://evil.example", None),
            ("127.0.0.1:7350", "null", None),
            // A name that was made to point here.
            ("evil.example:7350", "http://evil.example:7350", None),
            ("127.0.0.1.evil.example", "", None),
        ] {
            let is = access.check(&headers(host, origin)).ok();
            assert_eq!(is, expected.map(|origin| origin.map(str::to_owned)), "{host} {origin}");
        }
    }

    #[test]
    fn a_server_on_the_network_has_any_name() {
        let access = Access::default();
        assert_eq!(access.check(&headers("game.example:7350", "http://game.example:7350")), Ok(None));
        assert!(access.check(&headers("game.example:7350", "http://evil.example")).is_err());
        let open = Access { origins: vec!["*".into()], ..Access::default() };
        assert_eq!(open.check(&headers("a", "http://b")), Ok(Some("http://b".into())));
    }

    #[test]
    fn local_is_an_address_and_a_name() {
        let access = Access::default();
        let (here, there) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([192, 0, 2, 1]));
        assert!(access.is_local(here, &headers("localhost:7350", "")));
        assert!(access.is_local(here, &headers("", "")));
        assert!(!access.is_local(here, &headers("game.example", "")), "a proxy on the same machine");
        assert!(!access.is_local(there, &headers("localhost", "")));
        // A proxy on the same machine that keeps to the name that it calls by.
        for name in ["X-Forwarded-For", "Forwarded", "Via", "X-Real-IP"] {
            let mut headers = headers("localhost:7350", "");
            headers.insert(
                HeaderName::from_bytes(name.as_bytes()).expect("a name"),
                "::1".parse().expect("a value"),
            );
            assert!(!access.is_local(here, &headers), "{name}");
        }
        let proxies = Proxies::parse(&["127.0.0.0/8".to_owned()]).expect("a network");
        let behind = Access { proxies, ..Access::default() };
        assert!(!behind.is_local(here, &headers("localhost:7350", "")), "one that says nothing");
        assert!(behind.is_local("::1".parse().expect("an address"), &headers("localhost:7350", "")));
    }
}
