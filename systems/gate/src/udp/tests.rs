//! The UDP door and a client's endpoint in one process, on a network in memory.

use super::*;

/// The SessionStart of somebody without a token.
fn session_start() -> Vec<u8> {
    let credentials = Some(kaos_wire::v1::session_start::Credentials::Anonymous("ada".into()));
    let start =
        kaos_wire::v1::SessionStart { protocol_min: 1, protocol_max: 1, credentials, ..Default::default() };
    let mut bytes = Vec::new();
    kaos_wire::encode(kaos_wire::Opcode::SessionStart, &start, &mut bytes).expect("short");
    bytes
}

#[test]
fn an_empty_message_is_the_last_that_is_taken_of_a_connection() {
    let bridge = Arc::new(Bridge::new().expect("a descriptor"));
    let stats = Arc::new(Stats::default());
    let home = SocketAddr::from(([127, 0, 0, 1], 1));
    let setup = UdpSetup {
        socket: bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port"),
        seed: [1; 32],
        key: SecretKey::from_bytes([7; 32]),
        peers_max: 8,
        idle: Duration::from_secs(10),
    };
    let mut door = UdpDoor::new(setup, &bridge, stats.clone()).expect("a thread");
    let (mut slots, credentials) = (Slots::new(8, stats), Credentials::new(b"", true));
    let mut client = Endpoint::new(Config::default(), [2; 32]);
    let to =
        client.connect(Micros(0), home, Some(SecretKey::from_bytes([7; 32]).public())).expect("possible");
    let mut inputs = Vec::new();
    let mut buffer = vec![0; 2048];
    // One round of the network, in memory; both ends think that the other is at `home`.
    let mut round = |door: &mut UdpDoor, client: &mut Endpoint, inputs: &mut Vec<Input>, ms: u64| {
        let now = Micros(ms * 1000);
        client.handle_timeout(now);
        while client.poll_transmit(now, &mut buffer).is_some() {
            door.endpoint.handle(now, home, &mut buffer);
        }
        door.handshakes.pump(now, &mut door.endpoint);
        door.endpoint.handle_timeout(now);
        let mut budget = InputBudget::new(inputs);
        door.drain_events(now, &mut slots, &credentials, &mut budget);
        while door.endpoint.poll_transmit(now, &mut buffer).is_some() {
            client.handle(now, home, &mut buffer);
        }
    };
    let mut ms = 0;
    let mut connected = false;
    while !connected {
        ms += 1;
        round(&mut door, &mut client, &mut inputs, ms);
        while let Some(event) = client.poll_event() {
            connected |= matches!(event, Event::Connected { .. });
        }
        if !connected && door.endpoint.totals().jobs > 0 {
            bridge.wait(None, Some(Duration::from_secs(20)));
        }
    }
    client.send(to, Channel::CONTROL, &[&session_start()]).expect("room");
    for _ in 0..100 {
        client.send(to, Channel::CONTROL, &[]).expect("room");
    }
    inputs.clear();
    for _ in 0..100 {
        ms += 10;
        round(&mut door, &mut client, &mut inputs, ms);
    }
    let [
        Input::Open { peer, .. },
        Input::Start { .. },
        Input::Data { bytes, .. },
        Input::Gone { reason: Gone::Protocol, .. },
    ] = &inputs[..]
    else {
        panic!("{inputs:?}")
    };
    assert!(bytes.is_empty() && slots.close(*peer).is_none());
}
