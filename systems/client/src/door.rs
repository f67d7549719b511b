//! Where a server can be reached: reading urls, and asking `GET /v1/connect`.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper_util::rt::TokioIo;
use kaos_rudp::{KeyTextError, PublicKey};
use serde::Deserialize;
use tokio::net::TcpStream;

use crate::error::Error;

/// Bytes of an answer to `/v1/connect` that are read; the real one has about 200.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// How long asking may take.
const ASK: Duration = Duration::from_secs(5);

/// One way into a server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Door {
    /// kaos-rudp.
    Udp {
        /// Where.
        addr: SocketAddr,
        /// The server's key: nobody else is talked to. `None`: **whoever answers first is believed**, and nobody else
        /// for the rest of the session.
        key: Option<PublicKey>,
    },
    /// A WebSocket.
    WebSocket {
        /// The address that the host had when it was looked up.
        addr: SocketAddr,
        /// Host and port as they were written, for the Host header.
        host: String,
        /// The path, `/kaos`.
        path: String,
    },
}

impl std::fmt::Display for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Door::Udp { addr, key: None } => write!(f, "kaos://{addr}"),
            Door::Udp { addr, key: Some(key) } => write!(f, "kaos://{addr}#{key}"),
            Door::WebSocket { host, path, .. } => write!(f, "ws://{host}{path}"),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Kaos,
    Ws,
    Http,
}

/// What `/v1/connect` answers.
#[derive(Deserialize)]
struct Offer {
    #[serde(default)]
    udp: Option<Udp>,
    websocket: Option<String>,
}

#[derive(Deserialize)]
struct Udp {
    address: String,
    #[serde(default)]
    key: Option<String>,
}

impl Door {
    /// Makes `key` the expected one of a UDP door that has none yet.
    pub(crate) fn expect(&mut self, known: Option<PublicKey>) {
        if let Door::Udp { key, .. } = self {
            *key = key.or(known);
        }
    }

    /// Finds the door of a url: `kaos://host:7352` is UDP, `ws://host:7350` a WebSocket, and `http://host:7350` is
    /// asked: UDP where it is offered, else a WebSocket. Ports may be left out. `kaos://host:7352#key` expects the server
    /// with this public key; one that is asked tells its key itself.
    ///
    /// # Errors
    /// [`Error::Url`] when the url cannot be read or its scheme is not spoken, [`Error::Unreachable`] when the host has no
    /// address or the server does not answer.
    pub async fn find(url: &str) -> Result<Door, Error> {
        let (whole, key) = match url.split_once('#') {
            Some((whole, key)) if whole.starts_with("kaos://") => {
                let wrong = |why: KeyTextError| Error::Url { url: url.to_owned(), why: why.to_string() };
                (whole, Some(key.parse().map_err(wrong)?))
            }
            _ => (url, None),
        };
        let (scheme, host, path) = split(whole)?;
        let addrs = lookup(url, &host).await?;
        match scheme {
            Scheme::Kaos => {
                let addr = addrs.first().copied();
                addr.map(|addr| Door::Udp { addr, key })
                    .ok_or_else(|| unreachable(url, "the host has no address"))
            }
            Scheme::Ws => {
                let path = if path.is_empty() || path == "/" { "/kaos".to_owned() } else { path };
                let (addr, _) = first(url, &addrs, TcpStream::connect).await?;
                Ok(Door::WebSocket { addr, host, path })
            }
            Scheme::Http => {
                let (addr, offer) = first(url, &addrs, |addr| ask(addr, &host)).await?;
                offer.door(url, addr, host.clone())
            }
        }
    }
}

fn unreachable(url: &str, why: impl Into<String>) -> Error {
    Error::Unreachable { door: url.to_owned(), why: why.into() }
}

/// The first of a host's addresses that answers. `localhost` has two, and a server often listens on one of them.
async fn first<T, E, F>(
    url: &str,
    addrs: &[SocketAddr],
    attempt: impl Fn(SocketAddr) -> F,
) -> Result<(SocketAddr, T), Error>
where
    F: Future<Output = Result<T, E>>,
    E: std::fmt::Display,
{
    let mut why = "the host has no address".to_owned();
    for addr in addrs {
        match tokio::time::timeout(ASK, attempt(*addr)).await {
            Ok(Ok(answer)) => return Ok((*addr, answer)),
            Ok(Err(error)) => why = error.to_string(),
            Err(_) => why = format!("no answer within {} s", ASK.as_secs()),
        }
    }
    Err(unreachable(url, why))
}

impl Offer {
    fn door(self, url: &str, addr: SocketAddr, host: String) -> Result<Door, Error> {
        let unreachable = |why: &str| unreachable(url, why);
        match (self.udp, self.websocket) {
            (Some(udp), _) => {
                let key = udp.key.ok_or_else(|| unreachable("it names no key: update the server"))?;
                let key = key.parse().map_err(|_| unreachable("it names a key that cannot be read"))?;
                let mut to: SocketAddr = udp
                    .address
                    .parse()
                    .map_err(|_| unreachable("it names a UDP address that cannot be read"))?;
                // A server that listens everywhere is where its HTTP is.
                if to.ip().is_unspecified() {
                    to.set_ip(addr.ip());
                }
                Ok(Door::Udp { addr: to, key: Some(key) })
            }
            (None, Some(path)) if path.starts_with('/') => Ok(Door::WebSocket { addr, host, path }),
            (None, _) => Err(unreachable("it offers neither UDP nor a WebSocket")),
        }
    }
}

/// Scheme, `host:port` and path.
fn split(url: &str) -> Result<(Scheme, String, String), Error> {
    let wrong = |why: &str| Error::Url { url: url.to_owned(), why: why.to_owned() };
    let (scheme, rest) = url.split_once("://").ok_or_else(|| {
        wrong("it begins with kaos:// (UDP), ws:// (WebSocket) or http:// (asks the server which)")
    })?;
    let (scheme, port) = match scheme {
        "kaos" => (Scheme::Kaos, 7352),
        "ws" => (Scheme::Ws, 7350),
        "http" => (Scheme::Http, 7350),
        "wss" | "https" => return Err(wrong("this client does not speak TLS")),
        _ => return Err(wrong("the scheme is none of kaos, ws and http")),
    };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let path_ok = path.bytes().all(|byte| byte.is_ascii_graphic());
    if host.is_empty() || !path_ok || !host.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'@') {
        return Err(wrong("there is no host in it that can be looked up"));
    }
    // The colon of a port stands after the bracket of an IPv6 address.
    let has_port = host.rfind(':').is_some_and(|colon| host.rfind(']').is_none_or(|bracket| bracket < colon));
    let host = if has_port { host.to_owned() } else { format!("{host}:{port}") };
    Ok((scheme, host, path.to_owned()))
}

/// The addresses of a host, IPv4 first: UDP cannot try one after the other, and servers listen on 127.0.0.1 by default.
async fn lookup(url: &str, host: &str) -> Result<Vec<SocketAddr>, Error> {
    let found = tokio::net::lookup_host(host).await.map_err(|error| unreachable(url, error.to_string()))?;
    let mut addrs: Vec<SocketAddr> = found.take(8).collect();
    addrs.sort_by_key(SocketAddr::is_ipv6);
    addrs.dedup();
    Ok(addrs)
}

async fn ask(addr: SocketAddr, host: &str) -> Result<Offer, String> {
    let words = |error: &dyn std::fmt::Display| error.to_string();
    let stream = TcpStream::connect(addr).await.map_err(|error| words(&error))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| words(&error))?;
    let request = Request::get("/v1/connect").header("host", host).header("connection", "close");
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| words(&error))?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|error| words(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| words(&error))?.to_bytes();
        if !status.is_success() {
            return Err(format!("it answers /v1/connect with {status}: is it a KaosNet server?"));
        }
        serde_json::from_slice(&body).map_err(|_| "its answer to /v1/connect cannot be read".to_owned())
    };
    tokio::pin!(answer);
    tokio::pin!(connection);
    // The connection has to be polled for the answer to come, and may end before the body was taken.
    tokio::select! {
        answer = &mut answer => return answer,
        _ = &mut connection => {}
    }
    answer.await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let ok = |url: &str| split(url).map(|(_, host, path)| (host, path)).expect(url);
        assert_eq!(ok("kaos://localhost"), ("localhost:7352".into(), String::new()));
        assert_eq!(ok("ws://[::1]/kaos"), ("[::1]:7350".into(), "/kaos".into()));
        assert_eq!(ok("http://[::1]:80"), ("[::1]:80".into(), String::new()));
        for url in
            ["localhost:1", "https://a", "ftp://a", "kaos://", "ws:///kaos", "http://a b", "http://u@h"]
        {
            assert_eq!(split(url).map(|_| ()).expect_err(url).reason(), "url", "{url}");
        }
    }

    #[test]
    fn offers() {
        let addr: SocketAddr = "10.0.0.1:7350".parse().unwrap();
        let door = |json: &str| {
            serde_json::from_str::<Offer>(json).expect(json).door("http://a", addr, "a:7350".into())
        };
        let key = "DYS6X6Tn6Jy5p0U2GbQYYDoCUbQCVhYcd8pC8GxQ3HE";
        let udp = format!(r#"{{"udp":{{"address":"0.0.0.0:9","key":"{key}"}},"websocket":"/kaos"}}"#);
        assert_eq!(door(&udp).expect("UDP").to_string(), format!("kaos://10.0.0.1:9#{key}"));
        let ws = door(r#"{"udp":null,"websocket":"/kaos"}"#).expect("a WebSocket");
        assert_eq!(ws.to_string(), "ws://a:7350/kaos");
        for json in [
            r#"{"udp":{"address":"x"},"websocket":"/kaos"}"#,
            r#"{"udp":{"address":"1.2.3.4:5","key":"abc"},"websocket":"/kaos"}"#,
            r#"{"udp":null,"websocket":null}"#,
            r#"{"udp":null,"websocket":"kaos"}"#,
            "{}",
        ] {
            assert_eq!(door(json).expect_err(json).reason(), "unreachable");
        }
    }
}
