//! How clients of tests name a server's doors.

use kaosnet::runner::Running;

/// Its address for clients that prefer UDP.
pub(crate) fn udp_url(running: &Running) -> String {
    let key = running.udp_key.expect("UDP has a key");
    format!("kaos://{}#{key}", running.udp.expect("UDP is open"))
}

/// Its address for clients that want a WebSocket.
pub(crate) fn ws_url(running: &Running) -> String {
    format!("ws://{}", running.http)
}
