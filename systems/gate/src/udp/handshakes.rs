//! The key exchanges of newcomers: a thread beside the frame thread does them, 100 µs each.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use kaos_rudp::{Endpoint, HandshakeDone, HandshakeJob, Micros};

use crate::bridge::Bridge;

/// Jobs that wait for the thread, and results that wait for the frame: 6 ms of work. More wait in the endpoint, which
/// bounds them itself.
const JOBS_MAX: usize = 64;

/// See the module.
pub(crate) struct Handshakes {
    jobs: SyncSender<HandshakeJob>,
    done: Receiver<HandshakeDone>,
    /// A job that the thread had no room for.
    waiting: Option<HandshakeJob>,
}

impl Handshakes {
    /// Starts the thread; it ends when this is dropped.
    pub(crate) fn start(bridge: Arc<Bridge>) -> io::Result<Self> {
        let (jobs, wait_for_job) = sync_channel::<HandshakeJob>(JOBS_MAX);
        let (finish, done) = sync_channel(JOBS_MAX);
        let work = move || {
            while let Ok(job) = wait_for_job.recv() {
                if finish.send(job.run()).is_err() {
                    return;
                }
                bridge.nudge();
            }
        };
        std::thread::Builder::new().name("kaos-handshake".to_owned()).spawn(work)?;
        Ok(Handshakes { jobs, done, waiting: None })
    }

    /// Hands the endpoint's jobs to the thread, and the thread's results to the endpoint.
    pub(crate) fn pump(&mut self, now: Micros, endpoint: &mut Endpoint) {
        while let Ok(done) = self.done.try_recv() {
            endpoint.finish_job(now, done);
        }
        while let Some(job) = self.waiting.take().or_else(|| endpoint.poll_job()) {
            match self.jobs.try_send(job) {
                Ok(()) => {}
                // The thread wakes the frame for each that it has done.
                Err(TrySendError::Full(job)) => {
                    self.waiting = Some(job);
                    return;
                }
                // The thread is gone, which only a panic in it could do: newcomers time out, players go on.
                Err(TrySendError::Disconnected(_)) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use kaos_rudp::{Config, Event};

    use super::*;

    /// More newcomers than the thread has room for, all at once.
    #[test]
    fn all_newcomers_get_in_and_the_frame_is_woken_for_each() {
        let bridge = Arc::new(Bridge::new().expect("a bridge"));
        let mut handshakes = Handshakes::start(bridge.clone()).expect("a thread");
        let now = Micros(1_000_000);
        let home: SocketAddr = "127.0.0.1:7352".parse().expect("an address");
        let mut server = Endpoint::new(Config::server(), [1; 32]);
        let mut buf = Vec::new();
        let mut clients = Vec::new();
        for n in 0..300u16 {
            let mut seed = [2; 32];
            seed[..2].copy_from_slice(&n.to_le_bytes());
            let mut client = Endpoint::new(Config::default(), seed);
            client.connect(now, home, Some(server.public_key())).expect("possible");
            clients.push((client, SocketAddr::from(([127, 0, 0, 2], 1000 + n))));
        }
        let (mut connected, mut accepted) = (0, 0);
        while connected < clients.len() {
            for (client, addr) in &mut clients {
                while client.poll_transmit(now, &mut buf).is_some() {
                    server.handle(now, *addr, &mut buf);
                }
            }
            handshakes.pump(now, &mut server);
            while let Some(to) = server.poll_transmit(now, &mut buf) {
                let (client, _) = &mut clients[usize::from(to.port() - 1000)];
                client.handle(now, home, &mut buf);
                while let Some(event) = client.poll_event() {
                    accepted += usize::from(matches!(event, Event::Connected { .. }));
                }
            }
            while let Some(event) = server.poll_event() {
                connected += usize::from(matches!(event, Event::Connected { .. }));
            }
            if server.totals().jobs == 300 && accepted < 300 {
                let woken = bridge.wait(None, Some(Duration::from_secs(20)));
                assert!(woken, "a wake got lost after {accepted}");
            }
        }
    }
}
