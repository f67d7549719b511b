//! The KaosNet protocol, version 1, as types: opcodes, the message header, RoomData and the protobuf payloads.
//!
//! assets/proto/README.md describes the protocol for people; its hex examples are a test of this crate.
//! Everything that is decoded here came from a stranger: decoding never panics, allocates no more than a
//! small multiple of what it was given, and says what was wrong in a [`WireError`].
//!
//! ```
//! use kaos_wire::{ClientMessage, Opcode, decode_client, encode, messages, v1};
//!
//! let mut bytes = Vec::new();
//! encode(Opcode::Rpc, &v1::Rpc { cid: 1, id: "echo".into(), payload: b"hi".to_vec() }, &mut bytes)?;
//! for message in messages(&bytes) {
//!     let (op, payload) = message?;
//!     let ClientMessage::Rpc(rpc) = decode_client(op, payload)? else { unreachable!() };
//!     assert_eq!(rpc.payload, b"hi");
//! }
//! # Ok::<(), kaos_wire::WireError>(())
//! ```
#![forbid(unsafe_code)]

pub mod limits;

mod check;
mod decode;
mod error;
mod message;
mod opcode;
mod payload;
mod room_data;
mod table;

pub use decode::{ClientMessage, ServerMessage, decode_client, decode_server};
pub use error::{Problem, WireError};
pub use message::{Messages, encode, encode_raw, encoded_len, messages, put_header};
pub use opcode::{Channel, Opcode, counted, refusal};
pub use prost;
pub use room_data::{EVERYONE, RoomData, SERVER};

/// The payloads of assets/proto/kaosnet.proto, as prost makes them.
///
/// In JSON (serde) names are snake_case, a field that is left out has its default, a `oneof` is an object of
/// one key, and bytes are an array of numbers.
#[allow(missing_docs, clippy::doc_markdown, clippy::large_enum_variant)] // generated from the comments of the .proto
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/kaosnet.v1.rs"));
}

/// The lowest protocol version that this crate speaks.
pub const PROTOCOL_MIN: u32 = 1;

/// The highest protocol version that this crate speaks.
pub const PROTOCOL_MAX: u32 = 1;

/// The version that two ends speak, the highest that lies in both ranges.
///
/// # Errors
/// The word for [`v1::SessionEnd::reason`]: `client_too_old` or `server_too_old`. An empty range
/// (`min > max`) of the client counts as too old.
pub fn agree(client_min: u32, client_max: u32) -> Result<u32, &'static str> {
    let best = client_max.min(PROTOCOL_MAX);
    if client_max < PROTOCOL_MIN || client_min > client_max {
        Err("client_too_old")
    } else if client_min > PROTOCOL_MAX {
        Err("server_too_old")
    } else {
        Ok(best)
    }
}
