//! Cases on a real server: UDP, WebSockets and HTTP.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;

use kaos_client::{Client, Credentials, Error, connect};
use kaos_gate::identity::credentials::{Claims, mint};
use kaos_kernel::op::OpRow;
use kaosnet::runner::Running;
use serde_json::{Value as Json, json};
use tokio::runtime::Runtime;

use super::doors::{Door, Route, route};
use super::file::{Answer, Step, Who};
use super::folder;
use crate::live::running::{config, serve};
use crate::live::urls::{udp_url, ws_url};

/// The year 2100.
const LATER: u64 = 4_102_444_800;

pub(super) struct Live {
    running: Running,
    runtime: Runtime,
    clients: BTreeMap<Who, Client>,
}

impl Live {
    pub(super) fn start() -> Live {
        let mut config = config("cases");
        config.server.scripts = folder().join("scripts");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Live { running: serve(&config, |_| {}), runtime, clients: BTreeMap::new() }
    }

    pub(super) fn answer(
        &mut self,
        through: Door,
        row: Option<&OpRow>,
        step: &Step,
        request: &Json,
    ) -> Answer {
        if through == Door::Rest {
            let row = row.expect("a door reaches what is there");
            return self.http(&step.who, &route(row, request).expect("a door reaches what it can say"));
        }
        if !self.clients.contains_key(&step.who) {
            let client = self.connect(through, &step.who);
            self.clients.insert(step.who.clone(), client);
        }
        let client = &self.clients[&step.who];
        match self.runtime.block_on(client.call::<Json>(&step.op, request)) {
            Ok(reply) => Answer::Reply(reply),
            Err(Error::Refused(refusal)) => {
                Answer::Refused { name: Some(refusal.name), sentence: refusal.message }
            }
            Err(error) => Answer::Refused { name: None, sentence: error.to_string() },
        }
    }

    fn connect(&self, through: Door, who: &Who) -> Client {
        let url = if through == Door::Udp { udp_url(&self.running) } else { ws_url(&self.running) };
        let credentials = match who {
            Who::User(name) => Credentials::token(self.token(name)),
            Who::Anonymous(name) => Credentials::anonymous(name),
            Who::Nobody => unreachable!("nobody has no session"),
        };
        self.runtime.block_on(connect(&url, credentials)).unwrap_or_else(|error| panic!("{who}: {error}"))
    }

    fn token(&self, user: &str) -> String {
        let claims = Claims { uid: user.to_owned(), exp: LATER, ..Claims::default() };
        mint(&self.running.key, &claims).expect("minted")
    }

    fn http(&self, who: &Who, route: &Route) -> Answer {
        let Route { target, body, raw } = route;
        let bearer = match who {
            Who::User(name) => format!("Authorization: Bearer {}\r\n", self.token(name)),
            Who::Anonymous(_) | Who::Nobody => String::new(),
        };
        let mut stream = TcpStream::connect(self.running.http).expect("it listens");
        let length = body.len();
        let text = format!(
            "{target} HTTP/1.1\r\nHost: localhost\r\n{bearer}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        stream.write_all(text.as_bytes()).expect("taken");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("head and body");
        let is_well = head.split(' ').nth(1).is_some_and(|status| status.starts_with('2'));
        let json = || serde_json::from_str::<Json>(body).unwrap_or_else(|error| panic!("{error}: {answer}"));
        match (is_well, raw) {
            (true, Some(field)) => Answer::Reply(json!({ *field: body })),
            (true, None) => Answer::Reply(json()),
            (false, _) => {
                let said = |field: &str| json()[field].as_str().unwrap_or_default().to_owned();
                Answer::Refused { name: Some(said("name")), sentence: said("message") }
            }
        }
    }

    /// Clients say goodbye first: a server that stops waits for those that do not.
    pub(super) fn end(self) {
        for client in self.clients.into_values() {
            self.runtime.block_on(client.close());
        }
        self.running.stop();
    }
}
