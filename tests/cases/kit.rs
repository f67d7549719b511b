//! Cases in the test kit: sessions, calls without one, and scripts, on virtual time.

use std::collections::BTreeMap;
use std::sync::Arc;

use kaos_kernel::op::OpTable;
use kaosnet::prelude::Fault;
use kaosnet::testing::{Player, Test};
use serde_json::{Value as Json, json};

use super::doors::{Door, arguments};
use super::file::{Answer, Step, Who};
use super::setup;

pub(super) struct Kit {
    test: Test,
    pub(super) ops: Arc<OpTable>,
    players: BTreeMap<Who, Player>,
}

impl Kit {
    pub(super) fn start() -> Kit {
        let mut test = setup().start();
        let ops = test.with_server(|server| server.ops());
        Kit { test, ops, players: BTreeMap::new() }
    }

    pub(super) fn answer(&mut self, through: Door, step: &Step, request: &Json) -> Answer {
        let user = match &step.who {
            Who::User(name) => Some(name.as_str()),
            Who::Anonymous(_) | Who::Nobody => None,
        };
        match through {
            Door::Call => answer_of(self.test.call(user, &step.op, request.clone())),
            Door::Script => self.in_script(step, request),
            _ => answer_of(self.player(&step.who).call(&step.op, request)),
        }
    }

    /// The session of who calls; it begins with the first call.
    fn player(&mut self, who: &Who) -> Player {
        if let Some(player) = self.players.get(who) {
            return player.clone();
        }
        let player = match who {
            Who::User(name) => self.test.login(name),
            Who::Anonymous(name) => self.test.connect(name),
            Who::Nobody => unreachable!("nobody has no session"),
        };
        self.players.insert(who.clone(), player.clone());
        player
    }

    /// Calls the function of the operation in the rpc `case`, which tells what came.
    fn in_script(&mut self, step: &Step, request: &Json) -> Answer {
        let row = self.ops.by_name(&step.op).expect("a door reaches what is there");
        let name = row.op.script_name();
        let args = arguments(row, request).expect("a door reaches what it can say");
        let call = json!({ "name": name, "count": args.len(), "args": args }).to_string();
        let told = self.player(&step.who).rpc("case", call).expect("the script catches what fails");
        let mut told: Json = serde_json::from_slice(&told).expect("JSON");
        match told.get("refused").and_then(Json::as_str) {
            None => Answer::Reply(told["reply"].take()),
            Some(refused) => {
                let begins = format!("kaos.{name}: ");
                let sentence = refused.split_once(&begins).map_or(refused, |(_, sentence)| sentence);
                Answer::Refused { name: None, sentence: sentence.to_owned() }
            }
        }
    }

    /// What was run in the kit can be run again.
    pub(super) fn end(mut self) {
        self.test.replays_equally();
    }
}

fn answer_of(came: Result<Json, Fault>) -> Answer {
    match came {
        Ok(reply) => Answer::Reply(reply),
        Err(fault) => {
            Answer::Refused { name: Some(fault.kind.name().to_owned()), sentence: fault.message.into_owned() }
        }
    }
}
