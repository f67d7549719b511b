//! The state that all requests of the HTTP door share, and the count of its connections.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::HeaderMap;
use kaos_kernel::limit::subject;
use kaos_kernel::op::OpTable;
use kaos_rudp::PublicKey;
use tokio::sync::watch;

use crate::bridge::link::lock;
use crate::http::access::Access;
use crate::http::budget::Budgets;
use crate::http::files::Files;
use crate::http::routes::Routes;
use crate::websocket;

/// What every request needs.
pub(crate) struct Shared {
    pub(crate) server: websocket::Server,
    pub(crate) routes: Routes,
    pub(crate) ops: Arc<OpTable>,
    pub(crate) access: Access,
    pub(crate) files: Files,
    pub(crate) udp: Option<(SocketAddr, PublicKey)>,
    pub(crate) node: String,
    pub(crate) budgets: Budgets,
    pub(crate) call_time: Duration,
    pub(crate) stopped: watch::Receiver<bool>,
    pub(crate) connections: Mutex<BTreeMap<IpAddr, u32>>,
}

/// A TCP connection, counted as long as something holds it: the task that reads requests, or its WebSocket.
#[derive(Clone)]
pub(crate) struct Connection(pub(crate) Arc<Counted>);

pub(crate) struct Counted {
    /// Where it comes from.
    remote: IpAddr,
    /// What it counts for: see [`subject`].
    subject: IpAddr,
    pub(crate) shared: Arc<Shared>,
    /// It has become a WebSocket: sessions have rules of their own for clients that do not read.
    pub(crate) upgraded: Arc<AtomicBool>,
}

impl Connection {
    /// Where a request on it comes from.
    pub(crate) fn caller(&self, headers: &HeaderMap) -> IpAddr {
        self.0.shared.access.proxies.caller(self.0.remote, headers)
    }

    /// It is a WebSocket from now on.
    pub(crate) fn upgraded(&self) {
        self.0.upgraded.store(true, Ordering::Relaxed);
    }

    /// Counts a connection; `None` when there are too many in all or half of all from one address.
    pub(crate) fn new(shared: &Arc<Shared>, remote: IpAddr, connections_max: u32) -> Option<Self> {
        let remote = remote.to_canonical();
        let subject = subject(remote);
        let mut connections = lock(&shared.connections);
        let all: u32 =
            u32::try_from(shared.server.stats.connections.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        let of_address = connections.get(&subject).copied().unwrap_or(0);
        // Behind a proxy there are many.
        let many = remote.is_loopback() || shared.access.proxies.trust(remote);
        let fair = many || of_address < connections_max.div_ceil(2);
        if all >= connections_max || !fair {
            return None;
        }
        connections.insert(subject, of_address + 1);
        shared.server.stats.connections.fetch_add(1, Ordering::Relaxed);
        drop(connections);
        let counted = Counted { remote, subject, shared: shared.clone(), upgraded: Arc::default() };
        Some(Connection(Arc::new(counted)))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.shared.server.stats.connections.fetch_sub(1, Ordering::Relaxed);
        let mut connections = lock(&self.shared.connections);
        if let Some(count) = connections.get_mut(&self.subject) {
            *count -= 1;
            if *count == 0 {
                connections.remove(&self.subject);
            }
        }
    }
}
