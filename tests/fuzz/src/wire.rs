//! Messages of the protocol.

use kaos_wire::{decode_client, decode_server, messages};

/// What a client may send.
pub(crate) fn client(bytes: &[u8]) {
    split(bytes, |op, payload| drop(decode_client(op, payload)));
}

/// What a server may send.
pub(crate) fn server(bytes: &[u8]) {
    split(bytes, |op, payload| drop(decode_server(op, payload)));
}

fn split(bytes: &[u8], decode: impl Fn(u8, &[u8])) {
    let mut taken = 0;
    let mut broken = false;
    for message in messages(bytes) {
        assert!(!broken, "after a broken message there is no other");
        match message {
            Ok((op, payload)) => {
                taken += 3 + payload.len();
                decode(op, payload);
            }
            Err(_) => broken = true,
        }
    }
    assert!(taken <= bytes.len() && (broken || taken == bytes.len()), "messages fill the bytes");
}
