//! Answers as they come back into the frame: from a thread, or from a journal, which is a file.

use std::net::Ipv4Addr;

use super::*;
use crate::app::KaosApp;
use crate::call::Call;
use crate::ids::Ticket;
use crate::input::{Body, Boot, Input};
use crate::op::Op;
use crate::output::Outputs;
use crate::server::{Build, Server};

#[derive(serde::Serialize, serde::Deserialize)]
struct Echo(String);

impl Job for Echo {
    type Out = String;
    const NAME: &'static str = "echo";
}

/// A server with an operation that sends a job and answers what it answered.
fn echoing() -> (Server, Vec<Input>) {
    let built = Server::build(Build::default(), |app| {
        app.job(|job: Echo, _: &mut JobContext<'_>| Ok(job.0));
        app.op(Op::new("echo").public().price(1), async |cx: Call, _: ()| cx.job(Echo("a".into())).await);
    });
    (built.expect("it fits"), vec![Input::Boot(Boot { seed: 1, wall_ms: 1, node: 1 })])
}

#[test]
fn bytes_that_no_job_answered_end_their_call_with_a_fault_and_nothing_else() {
    let (mut server, mut inputs) = echoing();
    let hostile: [&[u8]; 7] = [
        b"",
        b"\x05hell",
        b"\x05hello!",
        b"\x02\xff\xff",
        b"\xff\xff\xff\xff\x0f",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        &[0x80; 64],
    ];
    let cases = hostile.map(|bytes| (bytes, false)).into_iter().chain([(&b"\x05hello"[..], true)]);
    for (call, (bytes, good)) in cases.enumerate() {
        let frame = 2 * call as u64;
        inputs.push(Input::Call {
            ticket: Ticket(frame + 2),
            op: "echo".into(),
            identity: None,
            address: Ipv4Addr::LOCALHOST.into(),
            body: Body::Json("".into()),
        });
        let mut outputs = Outputs::default();
        server.frame(frame, &mut inputs, &mut outputs);
        let ticket = outputs.jobs.first().expect("it was sent").ticket;
        inputs.push(Input::Done { ticket, answer: Ok(Bytes::copy_from_slice(bytes)) });
        let mut outputs = Outputs::default();
        server.frame(frame + 1, &mut inputs, &mut outputs);
        let results: Vec<_> = outputs.replies.into_iter().map(|reply| reply.result).collect();
        match &results[..] {
            [Ok(reply)] => assert!(good && reply == r#""hello""#, "{bytes:?}: {reply:?}"),
            [Err(fault)] => assert!(!good && fault.kind == FaultKind::Internal, "{bytes:?}: {fault}"),
            _ => panic!("{bytes:?}: {results:?}"),
        }
    }
}
