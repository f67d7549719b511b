//! One connection, over UDP or a WebSocket, as the driver sees it.

mod udp;
mod ws;

use std::sync::Arc;
use std::time::Duration;

use kaos_rudp::Micros;
use kaos_rudp::lab::Emulation;

use crate::core::Core;
use crate::credentials::Options;
use crate::door::Door;
use udp::UdpLink;
use ws::WsLink;

/// How connections are begun.
#[derive(Clone, Debug)]
pub(crate) struct Dialing {
    /// See [`Options::open_timeout`].
    open_timeout: Duration,
    /// See [`Options::emulation`].
    emulation: Option<Arc<Emulation>>,
}

impl Dialing {
    pub(crate) fn of(options: &Options) -> Dialing {
        Dialing { open_timeout: options.open_timeout, emulation: options.emulation.clone() }
    }
}

/// A connection that was dialled; it tells the core itself when it is open and when it is gone.
pub(crate) enum Link {
    Udp(Box<UdpLink>),
    Ws(WsLink),
}

impl Link {
    /// Begins to connect.
    pub(crate) fn dial(door: &Door, now: Micros, dialing: &Dialing) -> Result<Link, String> {
        match door {
            Door::Udp { addr, key } => Ok(Link::Udp(Box::new(UdpLink::dial(*addr, *key, now, dialing)?))),
            Door::WebSocket { addr, host, path } => Ok(Link::Ws(WsLink::dial(*addr, host, path))),
        }
    }

    /// Waits until [`Link::pump`] has something to do. Cancel safe.
    pub(crate) async fn ready(&mut self) {
        match self {
            Link::Udp(link) => link.ready().await,
            Link::Ws(link) => link.ready().await,
        }
    }

    /// Gives the core everything that has come. `false`: the connection is gone, and the core knows.
    pub(crate) fn pump(&mut self, now: Micros, core: &mut Core) -> bool {
        match self {
            Link::Udp(link) => link.pump(now, core),
            Link::Ws(link) => link.pump(now, core),
        }
    }

    /// Sends what the core has, as far as it goes.
    pub(crate) fn flush(&mut self, now: Micros, core: &mut Core) {
        match self {
            Link::Udp(link) => link.flush(now, core),
            Link::Ws(link) => link.flush(core),
        }
    }

    /// When to pump although nothing came.
    pub(crate) fn timeout(&self) -> Option<Micros> {
        match self {
            Link::Udp(link) => link.timeout(),
            Link::Ws(_) => None,
        }
    }

    /// Lets what was handed over leave, then closes; two seconds at most.
    pub(crate) async fn finish(self) {
        match self {
            Link::Udp(link) => link.finish().await,
            Link::Ws(link) => link.finish().await,
        }
    }
}
