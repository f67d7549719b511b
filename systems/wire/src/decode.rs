//! The two entries for bytes from strangers: an opcode and a payload become a typed, checked message.

use crate::{error::WireError, opcode::Opcode, payload::read, room_data::RoomData, table::messages, v1};

macro_rules! decoding {
    ($(
        $(#[$doc:meta])*
        $name:ident = $number:literal, $channel:ident $counting:ident {
            $(client $client:ident($client_payload:ty $(, $client_id:ident)?))?
            $(server $server:ident($server_payload:ty $(, $server_id:ident)?))?
        }
    )*) => {
        /// What a client may send.
        #[derive(Clone, Debug, PartialEq)]
        pub enum ClientMessage<'a> {
            $($(#[doc = concat!("Opcode ", stringify!($number), ".")] $client($client_payload),)?)*
        }

        impl ClientMessage<'_> {
            /// The id of the request; 0 for what is no request.
            #[must_use]
            pub fn cid(&self) -> u32 {
                match self {
                    $($(Self::$client(_message) => 0 $(+ _message.$client_id)?,)?)*
                }
            }
        }

        /// What a server may send.
        #[derive(Clone, Debug, PartialEq)]
        pub enum ServerMessage<'a> {
            $($(#[doc = concat!("Opcode ", stringify!($number), ".")] $server($server_payload),)?)*
        }

        impl ServerMessage<'_> {
            /// The id of the request that it answers; 0 when it answers none.
            #[must_use]
            pub fn cid(&self) -> u32 {
                match self {
                    $($(Self::$server(_message) => 0 $(+ _message.$server_id)?,)?)*
                }
            }
        }

        /// Reads and checks one payload that came from a client.
        ///
        /// # Errors
        /// Every variant of [`WireError`] but `Truncated` and `TooLong`. [`WireError::cid`] names the request for the
        /// answer, which travels as [`refusal`](crate::refusal) says.
        pub fn decode_client<'a>(op: u8, payload: &'a [u8]) -> Result<ClientMessage<'a>, WireError> {
            match op {
                $($($number => read(op, payload, |_message: &$client_payload| 0 $(+ _message.$client_id)?)
                    .map(ClientMessage::$client),)?)*
                _ => Err(not_received(op)),
            }
        }

        /// Reads and checks one payload that came from a server.
        ///
        /// # Errors
        /// As [`decode_client`].
        pub fn decode_server<'a>(op: u8, payload: &'a [u8]) -> Result<ServerMessage<'a>, WireError> {
            match op {
                $($($number => read(op, payload, |_message: &$server_payload| 0 $(+ _message.$server_id)?)
                    .map(ServerMessage::$server),)?)*
                _ => Err(not_received(op)),
            }
        }
    };
}

messages!(decoding);

/// Why a side does not read an opcode: it travels the other way only, or nobody knows it.
fn not_received(op: u8) -> WireError {
    match Opcode::from_u8(op) {
        Some(_) => WireError::WrongWay { op },
        None => WireError::UnknownOp { op },
    }
}
