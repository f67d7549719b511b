//! What can be set outside of the frame: doors, keys, folders, the journal and the log.

use std::net::SocketAddr;
use std::path::PathBuf;

use kaos_gate::Proxies;
use kaos_kernel::clock::Quantum;
use kaos_kernel::prelude::*;
use serde::{Deserialize, Serialize};

settings! {
    /// The process.
    pub struct ServerSettings in "", checked by check_quantum {
        /// The folder for keys and journals; made when it is missing.
        data: PathBuf = "data".into();
        /// The folder of scripts.
        scripts: PathBuf = "scripts".into();
        /// Microseconds in a frame: 250, 500, 1000, 2000 or 4000. Shorter answers sooner and costs more when busy.
        quantum_us: u32 = 500;
    }
}

settings! {
    /// The HTTP door, which is the WebSocket door too.
    pub struct HttpSettings in "http", checked by check_http {
        /// Where HTTP and WebSockets listen, IPv4 or [IPv6]. 0.0.0.0:7350 opens them to the network; port 0 takes a free
        /// one.
        address: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 7350)), expects "an address such as 127.0.0.1:7350";
        /// Origins of pages that may open a WebSocket, beside the server's own, such as https://play.example.com. "*" is
        /// any.
        origins: Vec<String> = Vec::new();
        /// Proxies whose X-Forwarded-For is believed: addresses and networks, such as 10.0.0.0/8. Of a request that comes
        /// from one, the last address in that header that is not a trusted proxy's counts for limits; without this key
        /// it is the proxy's own. Nobody who comes through one is local: /metrics and the playground are closed to them,
        /// and names without a token are not let in unless session.anonymous says so.
        trusted_proxies: Vec<String> = Vec::new();
    }
}

settings! {
    /// The UDP door.
    pub struct UdpSettings in "udp" {
        /// Where UDP listens, or off. It is encrypted.
        address: UdpAddress = UdpAddress(Some(SocketAddr::from(([127, 0, 0, 1], 7352)))),
            expects "an address such as 127.0.0.1:7352, or `off`";
        /// The secret half of the key that clients know the server by, 64 hexadecimal digits. null: made at the first
        /// start, kept in the data folder.
        key: Option<String> = None, kept secret;
    }
}

settings! {
    /// Who may start a session.
    pub struct AuthSettings in "session" {
        /// Whether a name without a token is enough. null: only while every door listens on loopback and no proxy is
        /// trusted.
        anonymous: Option<bool> = None;
        /// The key that signs session tokens (HS256), at least 16 bytes. null: made at the first start, kept in the data
        /// folder.
        key: Option<String> = None, kept secret;
    }
}

settings! {
    /// Connections.
    pub struct ConnectionSettings in "limit" {
        /// TCP connections of the HTTP door; further ones are closed at once.
        connections_max: u32 = 2048, in 1..=1 << 20;
    }
}

settings! {
    /// The record of all inputs.
    pub struct JournalSettings in "journal" {
        /// What is kept of the newest inputs in memory; beyond it the oldest go. 0: nothing. As long as all since the
        /// start is in it, a crash writes it to crash.kj in the data folder, for `kaosnet replay`.
        memory_bytes: usize = 8 << 20, unit "bytes";
        /// A file that all inputs are written to, for `kaosnet replay`; a file that is there is kept as FILE.1, and the one
        /// before it goes. It holds what players sent and tokens of live sessions, so only the server's user may read it.
        /// null: none.
        record: Option<PathBuf> = None;
    }
}

settings! {
    /// Figures for Prometheus.
    pub struct MetricsSettings in "metrics" {
        /// Whether others than loopback may read /metrics.
        open: bool = false;
    }
}

settings! {
    /// The page at `/`.
    pub struct PlaygroundSettings in "playground" {
        /// Whether others than loopback may open the page at /.
        open: bool = false;
    }
}

settings! {
    /// What the server writes about itself, on standard error.
    pub struct LogSettings in "log", checked by check_level {
        /// error, warn, info, debug, trace or off; or by module: warn,kaos_gate=debug
        level: String = "info".to_owned();
        /// One JSON object a line instead of text.
        json: bool = false;
    }
}

/// Where UDP listens; `None`, written `off`: it does not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(with = "String")]
pub struct UdpAddress(#[serde(with = "address_or_off")] pub Option<SocketAddr>);

/// `off`, or an address.
mod address_or_off {
    use std::net::SocketAddr;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    // serde's `with` asks for this signature.
    #[allow(clippy::ref_option)]
    pub(super) fn serialize<S: Serializer>(address: &Option<SocketAddr>, to: S) -> Result<S::Ok, S::Error> {
        match address {
            Some(address) => to.collect_str(address),
            None => to.serialize_str("off"),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SocketAddr>, D::Error> {
        let text = String::deserialize(from)?;
        if text == "off" {
            return Ok(None);
        }
        text.parse().map(Some).map_err(D::Error::custom)
    }
}

fn check_quantum(server: &ServerSettings) -> Vec<String> {
    let us = server.quantum_us;
    if Quantum::from_us(us).is_some() {
        return Vec::new();
    }
    vec![format!("`quantum_us` is {us}: it is one of 250, 500, 1000, 2000 and 4000")]
}

fn check_http(http: &HttpSettings) -> Vec<String> {
    let is_origin = |origin: &str| {
        let scheme = origin.split_once("://").map(|(scheme, host)| (scheme, host.contains('/')));
        origin == "*" || matches!(scheme, Some(("http" | "https", false)))
    };
    let wrong = http.origins.iter().filter(|origin| !is_origin(origin)).map(|origin| {
        format!("`http.origins` has `{origin}`: an origin is like https://play.example.com, without a path")
    });
    wrong.chain(Proxies::parse(&http.trusted_proxies).err().map(no_proxy)).collect()
}

pub(crate) fn no_proxy(entry: &str) -> String {
    format!(
        "`http.trusted_proxies` has `{entry}`: a proxy is an address or a network, like 127.0.0.1 or 10.0.0.0/8"
    )
}

fn check_level(log: &LogSettings) -> Vec<String> {
    let is_directive = |part: &str| {
        let level = part.rsplit_once('=').map_or(part, |(_, level)| level).trim();
        ["off", "error", "warn", "info", "debug", "trace"]
            .iter()
            .any(|known| level.eq_ignore_ascii_case(known))
    };
    if log.level.split(',').all(is_directive) {
        return Vec::new();
    }
    vec![format!(
        "`log.level` is `{}`: it is error, warn, info, debug, trace or off, or for a module `kaos_gate=debug`, \
         separated by commas",
        log.level
    )]
}
