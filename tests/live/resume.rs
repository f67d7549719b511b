//! A session moves between doors and survives gaps, under the arena's traffic.

use std::time::Duration;

use kaos_client::{Client, Credentials, Event, Room, connect};

use super::running::{config, serve};
use super::urls::{udp_url, ws_url};

/// What one player heard of another's shouts, which the arena says to everyone.
#[derive(Default, Debug, PartialEq)]
struct Heard {
    numbers: Vec<u32>,
    lost: u64,
}

impl Heard {
    /// Takes every event that is there.
    fn drain(&mut self, room: &mut Room, of: &str) {
        while let Some(event) = room.try_next() {
            match event {
                Event::Data { sender, op: 9, data, .. } if sender.username() == of => {
                    self.numbers.push(u32::from_le_bytes(data[..4].try_into().expect("a number")));
                }
                Event::State { lost, .. } => self.lost += lost,
                Event::Closed(end) => panic!("the room closed: {end:?}"),
                _ => {}
            }
        }
    }
}

async fn player(url: &str, name: &str) -> (Client, Room) {
    let me = connect(url, Credentials::anonymous(name)).await.expect("connects");
    let room = me.join_or_create("arena").await.expect("joins");
    (me, room)
}

#[tokio::test(flavor = "current_thread")]
async fn from_udp_to_websocket_and_back_every_message_comes_once_and_in_order() {
    let running = serve(&config("doors"), |_| {});
    let (ada, mut ada_room) = player(&udp_url(&running), "ada").await;
    let (_bob, mut bob_room) = player(&ws_url(&running), "bob").await;
    let moves = async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        ada.resume_over(&ws_url(&running)).await.expect("to WebSocket");
        tokio::time::sleep(Duration::from_millis(400)).await;
        ada.resume_over(&udp_url(&running)).await.expect("and back");
    };
    let (mut by_ada, mut by_bob) = (Heard::default(), Heard::default());
    let talk = async {
        // As long as it takes: the last shouts come back some round trips after they were sent.
        for n in 0..3000u32 {
            if n < 150 {
                ada_room.send(9, &n.to_le_bytes()).await.expect("sent or kept");
                bob_room.send(9, &n.to_le_bytes()).await.expect("sent");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
            by_ada.drain(&mut ada_room, "bob");
            by_bob.drain(&mut bob_room, "ada");
            if by_ada.numbers.len() >= 150 && by_bob.numbers.len() >= 150 && n > 160 {
                break;
            }
        }
    };
    tokio::join!(moves, talk);
    let all = Heard { numbers: (0..150).collect(), lost: 0 };
    assert_eq!(by_bob, all);
    assert_eq!(by_ada, all);
    assert_eq!(ada.resumed(), (2, 0));
}

#[tokio::test(flavor = "current_thread")]
async fn a_gap_that_overflows_the_keep_is_told_with_a_fresh_state() {
    let mut config = config("overflow");
    config.frame.set("session.resend_bytes", 8 * 1024);
    let running = serve(&config, |_| {});
    // Over TCP the server hears of the gap at once, and bounds what it keeps for those who are away.
    let (ada, mut ada_room) = player(&ws_url(&running), "ada").await;
    let (_bob, bob_room) = player(&udp_url(&running), "bob").await;
    ada.drop_connection_for(Duration::from_millis(2500));
    let mut heard = Heard::default();
    for n in 0..3000u32 {
        if n < 300 {
            bob_room.send(9, &n.to_le_bytes()).await.expect("sent");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        heard.drain(&mut ada_room, "bob");
        if heard.numbers.last() == Some(&299) && heard.lost > 0 {
            break;
        }
    }
    assert!(heard.lost > 0, "the client is told");
    assert_eq!(heard.numbers.last(), Some(&299), "{heard:?}");
    assert!(
        heard.numbers.is_sorted() && heard.numbers.len() < 300,
        "the oldest are what was lost: {heard:?}"
    );
    assert_eq!(ada_room.info().members.len(), 2);
}
