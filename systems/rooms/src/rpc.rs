//! Rpc: a script's function that clients call. It runs as a job, on a virtual machine that keeps nothing.

use kaos_kernel::input::Identity;
use kaos_kernel::op::{Payload, WireForm};
use kaos_kernel::output::Channel;
use kaos_kernel::prelude::*;
use kaos_kernel::script::{RpcContext, RpcIds, RunRpc};
use kaos_wire::prost::Message as _;
use kaos_wire::{ClientMessage, Opcode, v1};
use serde::{Deserialize, Serialize};

use crate::ops::wire::read;

/// Registers the operation of this file.
pub(crate) fn register(app: &mut App) {
    let form = WireForm {
        channel: Channel::Control,
        opcode: Opcode::Rpc as u8,
        reply_opcode: Opcode::RpcResponse as u8,
        parse,
        render,
    };
    // Over HTTP body and reply are the payload as it is, text or not.
    let rest = Rest::new("POST /v1/rpc/{id}").body(RestBody::Raw("payload")).raw_reply(raw);
    app.op(
        Op::new("rpc")
            .about("Calls a function that a script registered.")
            .script(ScriptUse::Rpc)
            .args(&["id", "payload"])
            .face(Face::Rest(rest))
            .price(2)
            .wire(form),
        rpc,
    );
}

/// A call of a script's function.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Rpc {
    /// The name under which the script registered it.
    pub id: String,
    /// The game's own bytes.
    #[serde(default)]
    pub payload: Blob,
}

/// What the function returned: bytes as they are, tables as JSON.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RpcReply {
    /// The game's own bytes.
    pub payload: Blob,
}

async fn rpc(cx: Call, request: Rpc) -> Result<RpcReply, Fault> {
    let caller = cx.caller().clone();
    let context = cx.with(|world| {
        let known = &world.resource::<RpcIds>().0;
        if !known.contains(&request.id) {
            let nearest = kaos_kernel::spelling::nearest(&request.id, known.iter().cloned());
            return Err(Fault::not_found(format!("no script registers an rpc `{}`{nearest}", request.id)));
        }
        Ok(context(world, &caller))
    })?;
    let payload = cx.job(RunRpc { id: request.id, payload: request.payload.0, context }).await?;
    Ok(RpcReply { payload: Blob(payload) })
}

fn context(world: &mut World, caller: &Caller) -> RpcContext {
    // Ids are drawn in the order of calls, which is the order of inputs; the job's dice follow from it.
    let seed = world.resource_mut::<ServerDice>().uuid().as_u128() as u64;
    let Identity { user_id, username, vars: of_token } = caller.identity(world).cloned().unwrap_or_default();
    let session = caller.session().and_then(|id| world.of_session::<Session>(id));
    let vars = session.map(|session| session.vars.clone());
    RpcContext {
        session_id: caller.session(),
        user_id,
        username,
        vars: vars.unwrap_or(of_token),
        now_ms: world.resource::<Clock>().now_ms(),
        seed,
        node: world.resource::<NodeSettings>().node.clone(),
    }
}

fn raw(reply: &dyn Payload) -> Result<Bytes, Fault> {
    reply.as_type::<RpcReply>().map(|reply| reply.payload.0.clone())
}

fn parse(payload: &[u8]) -> Result<(u32, Box<dyn Payload>), Fault> {
    match read(Opcode::Rpc, payload)? {
        ClientMessage::Rpc(m) => Ok((m.cid, Box::new(Rpc { id: m.id, payload: Blob(m.payload.into()) }))),
        _ => Err(Fault::internal("a payload reached the wrong parser")),
    }
}

fn render(cid: u32, reply: &dyn Payload) -> Result<Vec<u8>, Fault> {
    let answer = reply.as_type::<RpcReply>()?;
    Ok(v1::RpcResponse { cid, payload: answer.payload.0.to_vec() }.encode_to_vec())
}
