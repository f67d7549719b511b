//! renet 2.0 over renetcode 2.0 with connect tokens: ChaCha20-Poly1305, no congestion control.
//!
//! It sends acknowledgements whenever it is updated, so it is polled as it is meant to be: once a frame at 60 Hz.

use std::{net::SocketAddr, time::Duration};

use kaos_rudp::Micros;
use renet::{ChannelConfig, ClientId, ConnectionConfig, RenetClient, RenetServer, SendType};
use renetcode::{
    ClientAuthentication, ConnectToken, NETCODE_KEY_BYTES, NetcodeClient, NetcodeServer,
    ServerAuthentication, ServerConfig, ServerResult,
};

use crate::stack::{Delivery, Host, Stack};

/// Most clients of a server: renetcode's own limit.
pub(crate) const CLIENTS_MAX: usize = 1024;

const KEY: [u8; NETCODE_KEY_BYTES] = [7; NETCODE_KEY_BYTES];
const PROTOCOL: u64 = 1;
const CHANNEL: u8 = 0;

/// renet with a kind of channel and its fixed resend time.
#[derive(Clone, Copy)]
pub(crate) struct RenetStack {
    pub(crate) delivery: Delivery,
    /// Default 300 ms.
    pub(crate) resend_ms: u64,
}

impl RenetStack {
    fn config(&self) -> ConnectionConfig {
        let resend_time = Duration::from_millis(self.resend_ms);
        let channels = vec![ChannelConfig {
            channel_id: CHANNEL,
            max_memory_usage_bytes: 5 * 1024 * 1024,
            send_type: match self.delivery {
                Delivery::Ordered => SendType::ReliableOrdered { resend_time },
                Delivery::Unordered => SendType::ReliableUnordered { resend_time },
                Delivery::Unreliable => SendType::Unreliable,
            },
        }];
        ConnectionConfig {
            server_channels_config: channels.clone(),
            client_channels_config: channels,
            ..ConnectionConfig::default()
        }
    }
}

fn time(now: Micros) -> Duration {
    Duration::from_micros(now.0)
}

impl Stack for RenetStack {
    fn name(&self) -> String {
        match self.delivery {
            Delivery::Ordered => format!("renet ordered, {} ms", self.resend_ms),
            Delivery::Unordered => format!("renet unordered, {} ms", self.resend_ms),
            Delivery::Unreliable => "renet unreliable".into(),
        }
    }

    fn poll(&self) -> Duration {
        Duration::from_micros(16_667)
    }

    fn server(&self, now: Micros, addr: SocketAddr, peers: usize, _: u64) -> Box<dyn Host> {
        let netcode = NetcodeServer::new(ServerConfig {
            current_time: time(now),
            max_clients: peers.clamp(1, CLIENTS_MAX),
            protocol_id: PROTOCOL,
            public_addresses: vec![addr],
            authentication: ServerAuthentication::Secure { private_key: KEY },
        });
        Box::new(Server {
            renet: RenetServer::new(self.config()),
            netcode,
            updated: now,
            peers: Vec::new(),
            replies: Vec::new(),
        })
    }

    fn client(&self, now: Micros, to: SocketAddr, index: usize, _: u64) -> Box<dyn Host> {
        let token = ConnectToken::generate(time(now), PROTOCOL, 300, index as u64, 15, vec![to], None, &KEY);
        let connect_token = match token {
            Ok(token) => token,
            Err(error) => unreachable!("one address, a key: {error}"),
        };
        let netcode = match NetcodeClient::new(time(now), ClientAuthentication::Secure { connect_token }) {
            Ok(netcode) => netcode,
            Err(error) => unreachable!("the token has an address: {error}"),
        };
        Box::new(Client {
            renet: RenetClient::new(self.config()),
            netcode,
            updated: now,
            message_room: self.delivery != Delivery::Unreliable,
            control: Vec::new(),
        })
    }
}

struct Server {
    renet: RenetServer,
    netcode: NetcodeServer,
    updated: Micros,
    peers: Vec<ClientId>,
    /// Datagrams of the handshake and keep-alives.
    replies: Vec<(SocketAddr, Vec<u8>)>,
}

/// Does what the lower half of the server asks for.
fn answer(
    result: ServerResult<'_, '_>,
    renet: &mut RenetServer,
    peers: &mut Vec<ClientId>,
    replies: &mut Vec<(SocketAddr, Vec<u8>)>,
) {
    match result {
        ServerResult::None => {}
        ServerResult::PacketToSend { addr, payload } => replies.push((addr, payload.to_vec())),
        ServerResult::Payload { client_id, payload } => {
            let _ = renet.process_packet_from(payload, client_id);
        }
        ServerResult::ClientConnected { client_id, addr, payload, .. } => {
            renet.add_connection(client_id);
            peers.push(client_id);
            replies.push((addr, payload.to_vec()));
        }
        ServerResult::ClientDisconnected { client_id, addr, payload } => {
            renet.remove_connection(client_id);
            if let Some(payload) = payload {
                replies.push((addr, payload.to_vec()));
            }
        }
    }
}

impl Host for Server {
    fn handle(&mut self, _: Micros, from: SocketAddr, bytes: &mut [u8]) {
        let result = self.netcode.process_packet(from, bytes);
        answer(result, &mut self.renet, &mut self.peers, &mut self.replies);
    }

    fn tick(&mut self, now: Micros) {
        let passed = now.since(self.updated);
        self.updated = now;
        self.renet.update(passed);
        self.netcode.update(passed);
        for client in self.netcode.clients_id() {
            let result = self.netcode.update_client(client);
            answer(result, &mut self.renet, &mut self.peers, &mut self.replies);
        }
    }

    fn receive(&mut self, message: &mut dyn FnMut(&[u8])) {
        while self.renet.get_event().is_some() {}
        for client in self.renet.clients_id() {
            while let Some(bytes) = self.renet.receive_message(client, CHANNEL) {
                message(&bytes);
            }
        }
    }

    fn send(&mut self, _: Micros, peer: usize, bytes: &[u8]) -> bool {
        let client = self.peers[peer];
        let has_room = self.renet.can_send_message(client, CHANNEL, bytes.len());
        if has_room {
            self.renet.send_message(client, CHANNEL, bytes.to_vec());
        }
        has_room
    }

    fn transmit(&mut self, _: Micros, datagram: &mut dyn FnMut(SocketAddr, &[u8])) {
        for (to, bytes) in self.replies.drain(..) {
            datagram(to, &bytes);
        }
        for client in self.renet.clients_id() {
            for packet in self.renet.get_packets_to_send(client).unwrap_or_default() {
                if let Ok((to, payload)) = self.netcode.generate_payload_packet(client, &packet) {
                    datagram(to, payload);
                }
            }
        }
    }

    fn connected(&self) -> usize {
        self.peers.len()
    }
}

struct Client {
    renet: RenetClient,
    netcode: NetcodeClient,
    updated: Micros,
    /// Whether a full channel would end the connection, so that it must be asked for room first.
    message_room: bool,
    control: Vec<(SocketAddr, Vec<u8>)>,
}

impl Host for Client {
    fn handle(&mut self, _: Micros, from: SocketAddr, bytes: &mut [u8]) {
        if from == self.netcode.server_addr()
            && let Some(payload) = self.netcode.process_packet(bytes)
        {
            self.renet.process_packet(payload);
        }
    }

    fn tick(&mut self, now: Micros) {
        let passed = now.since(self.updated);
        self.updated = now;
        if self.netcode.is_connected() {
            self.renet.set_connected();
        }
        self.renet.update(passed);
        if let Some((bytes, to)) = self.netcode.update(passed) {
            self.control.push((to, bytes.to_vec()));
        }
    }

    fn receive(&mut self, message: &mut dyn FnMut(&[u8])) {
        while let Some(bytes) = self.renet.receive_message(CHANNEL) {
            message(&bytes);
        }
    }

    fn send(&mut self, _: Micros, _: usize, bytes: &[u8]) -> bool {
        let has_room = !self.message_room || self.renet.can_send_message(CHANNEL, bytes.len());
        if has_room {
            self.renet.send_message(CHANNEL, bytes.to_vec());
        }
        has_room
    }

    fn transmit(&mut self, _: Micros, datagram: &mut dyn FnMut(SocketAddr, &[u8])) {
        for (to, bytes) in self.control.drain(..) {
            datagram(to, &bytes);
        }
        if !self.netcode.is_connected() {
            return;
        }
        for packet in self.renet.get_packets_to_send() {
            if let Ok((to, payload)) = self.netcode.generate_payload_packet(&packet) {
                datagram(to, payload);
            }
        }
    }

    fn connected(&self) -> usize {
        usize::from(self.netcode.is_connected())
    }
}
