//! The hex examples of assets/proto/README.md: the fields encode to the bytes, the bytes decode to the fields.
//!
//! An example is a fenced block `message`: a line `client Name + Name`, the fields as JSON (an array when there
//! are several messages), a line `=`, and hex with `#` comments. In the JSON, `hex:` stands for bytes, `0x` for a
//! session id, and the members of a `oneof` stand beside the other fields.
//! `UPDATE=1` writes the bytes that do not fit into the page.

#![allow(clippy::unwrap_used)] // the helpers of tests are tests

use std::fmt::Write as _;

use kaos_wire::{
    ClientMessage, Opcode, RoomData, ServerMessage, decode_client, decode_server, encode, messages,
    prost::Message, v1,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/proto/README.md");
const EVENTS: [&str; 5] = ["joined", "left", "closed", "label", "changed"];
const CREDENTIALS: [&str; 3] = ["token", "anonymous", "resume"];

/// The page's JSON in the form that serde has: bytes as numbers, ids as numbers.
fn plain(value: &Value) -> Value {
    match value {
        Value::String(text) => match (text.strip_prefix("hex:"), text.strip_prefix("0x")) {
            (Some(hex), _) => json!(bytes(hex)),
            (_, Some(id)) => json!(u64::from_str_radix(id, 16).unwrap()),
            _ => value.clone(),
        },
        Value::Array(list) => list.iter().map(plain).collect(),
        Value::Object(fields) => {
            Value::Object(fields.iter().map(|(key, value)| (key.clone(), plain(value))).collect())
        }
        _ => value.clone(),
    }
}

fn nest(mut fields: Map<String, Value>, oneof: &str, members: &[&str]) -> Value {
    let inner: Map<_, _> = members.iter().filter_map(|key| fields.remove_entry(*key)).collect();
    fields.insert(oneof.into(), inner.into());
    fields.into()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        hex.lines().flat_map(|line| line.split('#').next().unwrap().bytes()).filter(|b| *b > b' ').collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn typed<M: Message + DeserializeOwned>(op: Opcode, fields: Value, out: &mut Vec<u8>) {
    let message: M = serde_json::from_value(fields).unwrap();
    encode(op, &message, out).unwrap();
}

fn written(name: &str, fields: &Value, out: &mut Vec<u8>) {
    let fields = plain(fields);
    let object = fields.as_object().unwrap().clone();
    match name {
        "SessionStart" => {
            typed::<v1::SessionStart>(Opcode::SessionStart, nest(object, "credentials", &CREDENTIALS), out);
        }
        "SessionStarted" => typed::<v1::SessionStarted>(Opcode::SessionStart, fields, out),
        "SessionEnd" => typed::<v1::SessionEnd>(Opcode::SessionEnd, fields, out),
        "Heartbeat" => typed::<v1::Heartbeat>(Opcode::Heartbeat, fields, out),
        "RoomCreate" => typed::<v1::RoomCreate>(Opcode::RoomCreate, fields, out),
        "RoomCreated" => typed::<v1::RoomCreated>(Opcode::RoomCreate, fields, out),
        "RoomJoin" => typed::<v1::RoomJoin>(Opcode::RoomJoin, fields, out),
        "RoomJoined" => typed::<v1::RoomJoined>(Opcode::RoomJoin, fields, out),
        "RoomLeave" => typed::<v1::RoomLeave>(Opcode::RoomLeave, fields, out),
        "RoomLeft" => typed::<v1::RoomLeft>(Opcode::RoomLeave, fields, out),
        "RoomState" => typed::<v1::RoomState>(Opcode::RoomState, fields, out),
        "RoomEvent" => typed::<v1::RoomEvent>(Opcode::RoomEvent, nest(object, "event", &EVENTS), out),
        "RoomError" => typed::<v1::Error>(Opcode::RoomError, fields, out),
        "Error" => typed::<v1::Error>(Opcode::Error, fields, out),
        "Rpc" => typed::<v1::Rpc>(Opcode::Rpc, fields, out),
        "RpcResponse" => typed::<v1::RpcResponse>(Opcode::RpcResponse, fields, out),
        "Call" => typed::<v1::Call>(Opcode::Call, fields, out),
        "CallReply" => typed::<v1::CallReply>(Opcode::Call, fields, out),
        "Event" => typed::<v1::Event>(Opcode::Event, fields, out),
        "EventUnreliable" => typed::<v1::Event>(Opcode::EventUnreliable, fields, out),
        "RoomData" | "RoomDataUnreliable" => {
            let number = |key: &str| u16::try_from(fields[key].as_u64().unwrap()).unwrap();
            let data: Vec<u8> = serde_json::from_value(fields["data"].clone()).unwrap();
            let op = u8::try_from(number("op")).unwrap();
            let data = RoomData { handle: number("handle"), index: number("index"), op, data: &data };
            match name {
                "RoomData" => data.encode(out).unwrap(),
                _ => data.encode_unreliable(out).unwrap(),
            }
        }
        _ => panic!("the page names an unknown message {name}"),
    }
}

fn fields<M: Serialize>(message: &M) -> Value {
    serde_json::to_value(message).unwrap()
}

fn data_fields(data: RoomData<'_>) -> Value {
    json!({"handle": data.handle, "index": data.index, "op": data.op, "data": data.data})
}

fn read(side: &str, op: u8, payload: &[u8]) -> Value {
    if side == "client" {
        match decode_client(op, payload).unwrap() {
            ClientMessage::SessionStart(m) => fields(&m),
            ClientMessage::SessionEnd(m) => fields(&m),
            ClientMessage::Heartbeat(m) => fields(&m),
            ClientMessage::RoomCreate(m) => fields(&m),
            ClientMessage::RoomJoin(m) => fields(&m),
            ClientMessage::RoomLeave(m) => fields(&m),
            ClientMessage::RoomData(data) | ClientMessage::RoomDataUnreliable(data) => data_fields(data),
            ClientMessage::Rpc(m) => fields(&m),
            ClientMessage::Call(m) => fields(&m),
        }
    } else {
        match decode_server(op, payload).unwrap() {
            ServerMessage::SessionStarted(m) => fields(&m),
            ServerMessage::SessionEnd(m) => fields(&m),
            ServerMessage::Heartbeat(m) => fields(&m),
            ServerMessage::RoomCreated(m) => fields(&m),
            ServerMessage::RoomJoined(m) => fields(&m),
            ServerMessage::RoomLeft(m) => fields(&m),
            ServerMessage::RoomData(data) | ServerMessage::RoomDataUnreliable(data) => data_fields(data),
            ServerMessage::RoomState(m) => fields(&m),
            ServerMessage::RoomEvent(m) => fields(&m),
            ServerMessage::RpcResponse(m) => fields(&m),
            ServerMessage::CallReply(m) => fields(&m),
            ServerMessage::Error(m) | ServerMessage::RoomError(m) => fields(&m),
            ServerMessage::Event(m) | ServerMessage::EventUnreliable(m) => fields(&m),
        }
    }
}

/// Whether `page` says nothing that `read` does not say: defaults may be left out, a `oneof` stands flat.
fn says(page: &Value, read: &Value) -> bool {
    match (page, read) {
        (Value::Object(page), Value::Object(read)) => page.iter().all(|(key, value)| {
            let flat = [read.get(key), read.get("event").and_then(|e| e.get(key))];
            let flat = flat.into_iter().chain([read.get("credentials").and_then(|c| c.get(key))]);
            flat.flatten().any(|read| says(value, read))
        }),
        (Value::Array(page), Value::Array(read)) => {
            page.len() == read.len() && page.iter().zip(read).all(|(page, read)| says(page, read))
        }
        _ => page == read,
    }
}

#[test]
fn the_hex_examples_are_true() {
    let page = std::fs::read_to_string(PAGE).unwrap();
    let mut fresh = page.clone();
    let (mut seen, mut wrong) = (Vec::new(), 0);
    for block in page.split("```message\n").skip(1) {
        let block = block.split("```").next().unwrap();
        let (head, rest) = block.split_once('\n').unwrap();
        let (side, names) = head.split_once(' ').unwrap();
        let (text, hex) = rest.split_once("\n=\n").unwrap();
        let value: Value =
            serde_json::from_str(text).unwrap_or_else(|error| panic!("{head}: {error}\n{text}"));
        let names: Vec<&str> = names.split(" + ").collect();
        let all = if names.len() == 1 { vec![value] } else { value.as_array().unwrap().clone() };
        assert_eq!(names.len(), all.len(), "{head}");

        let mut parts = Vec::new();
        for (name, fields) in names.iter().zip(&all) {
            let mut out = Vec::new();
            written(name, fields, &mut out);
            parts.push(out);
            seen.push((*name).to_owned());
        }
        let whole = parts.concat();
        if hex.trim() == "??" || bytes(hex) != whole {
            wrong += 1;
            let mut right = String::new();
            for part in &parts {
                for line in part.chunks(32) {
                    let line: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
                    writeln!(right, "{}", line.join(" ")).unwrap();
                }
            }
            fresh =
                fresh.replace(&format!("{head}\n{text}\n=\n{hex}"), &format!("{head}\n{text}\n=\n{right}"));
        }
        for (message, page) in messages(&whole).zip(&all) {
            let (op, payload) = message.unwrap();
            let read = read(side, op, payload);
            assert!(says(&plain(page), &read), "{head}: the bytes say {read}");
        }
    }
    // Written only when it differs: the other test reads the page meanwhile.
    if wrong > 0 && std::env::var_os("UPDATE").is_some() {
        std::fs::write(PAGE, fresh).unwrap();
    } else {
        assert_eq!(wrong, 0, "examples whose bytes differ; UPDATE=1 writes them");
    }
    for name in [
        "SessionStarted",
        "SessionEnd",
        "RoomError",
        "CallReply",
        "RoomDataUnreliable",
        "Event",
        "EventUnreliable",
    ] {
        assert!(seen.iter().any(|seen| seen == name), "no example of {name}");
    }
    assert!(seen.len() >= 30, "{} examples", seen.len());
}

/// The page's table of opcodes and its table of limits say what the code says.
#[test]
fn the_tables_are_true() {
    let page = std::fs::read_to_string(PAGE).unwrap();
    for &op in Opcode::ALL {
        let row = page.lines().find(|line| line.starts_with(&format!("| {:#04x} |", op as u8)));
        let cells: Vec<&str> =
            row.unwrap_or_else(|| panic!("no row for {op}")).split('|').map(str::trim).collect();
        assert!(cells[2].starts_with(op.name()) || cells[3].starts_with(op.name()), "{op}");
        assert_eq!(cells[4], format!("{:?}", op.channel()).to_lowercase(), "{op}");
        let counted = op.counted().map_or("no".into(), |channel| format!("{channel:?}").to_lowercase());
        assert_eq!(cells[5], counted, "{op}");
    }
    use kaos_wire::limits as l;
    for (row, number) in [
        ("payload of a message", l::PAYLOAD_MAX),
        ("data of a RoomData", l::ROOM_DATA_MAX),
        ("data of a RoomDataUnreliable", l::UNRELIABLE_DATA_MAX),
        ("a WebSocket frame", l::WEBSOCKET_FRAME_MAX),
        ("resend buffer, per session and end", l::RESEND_MAX),
        ("received before an acknowledgement is due at once", l::ACKNOWLEDGE_AFTER),
        ("unreadable messages before the session ends, one forgotten in a minute", l::STRIKES as usize),
        ("`client`", l::CLIENT_MAX),
        ("`token`", l::TOKEN_MAX),
        ("`module`, rpc `id`, call `op`", l::NAME_MAX),
        ("`params`", l::PARAMS_MAX),
        ("`metadata`", l::METADATA_MAX),
        ("`label`", l::LABEL_MAX),
        ("`name` of an event", l::EVENT_NAME_MAX),
        ("`user_id`, `username`", l::USER_MAX),
        ("`reason`, `name` of an error", l::REASON_MAX),
        ("`message` of an error or an end", l::MESSAGE_MAX),
        ("presences in one message", l::PRESENCES_MAX),
    ] {
        let line = page.lines().find_map(|line| line.strip_prefix(&format!("| {row} | ")));
        let cell = line.and_then(|line| line.split('|').next()).unwrap_or_else(|| panic!("no row `{row}`"));
        let digits = cell.replace([',', ' '], "");
        assert_eq!(digits, number.to_string(), "{row}");
    }
}
