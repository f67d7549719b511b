//! A second language beside Lua: what a runtime has to be, and what all of them share.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod calc;
mod kit;
mod language;

use kaos_kernel::prelude::*;
use kaos_kernel::room::{RoomFact, RoomMessage};
use kaos_kernel::script::{Admission, Batch, Match, MatchError, MatchErrorKind, MatchSeed};
use kaos_script::{ScriptApp, ScriptFunction, Scripts};
use serde_json::{Value as Json, json};
use std::sync::Arc;

use calc::Calc;
use kit::{Kit, build, feature, kit, refused};

const SERVICES: &str = r#"
rpc echo
 a1 parse
rpc gold
 a1 parse "gold" get 1 +
rpc user
 a0 "user_id" get
rpc poor
 "precondition" "too-poor" {"need":5} refuse
rpc many
 9 "too-many" [] refuse
rpc other
 8 "some-number" [] refuse
rpc misspelt
 "precondtion" "x" null refuse
rpc broken
 "a-defect" fail
rpc note
 1 kaos.note_read/1
rpc no_note
 2 demo.note/1
rpc divide
 [] 17 5 demo.divide/2 + push
rpc zero
 1 0 demo.divide/2
rpc crowded
 1 2 3 demo.divide/3
rpc slow
 demo.slow/0
rpc double
 "lua_double" a1 kaos.rpc/2 "payload" get
rpc endless
 "endless" "" kaos.rpc/2
"#;

const LUA: &str = "kaos.register_rpc('lua_double', function(ctx, n) return { twice = tonumber(n) * 2 } end)
kaos.register_rpc('lua_echo', function(ctx, n) return kaos.rpc('echo', n).payload end)
kaos.register_rpc('lua_poor', function() return kaos.rpc('poor') end)
kaos.register_rpc('lua_many', function() error({ code = 9, message = 'too many' }) end)
kaos.register_rpc('lua_split', function() return { demo.divide(17, 5) } end)
kaos.register_rpc('lua_zero', function() demo.divide(1, 0) end)
kaos.register_rpc('lua_no_note', function() return demo.note(2) end)";

fn services() -> Kit {
    kit(&[("lib/services.calc", SERVICES), ("double.lua", LUA)])
}

fn fault(word: &str, sentence: &str) -> Result<String, (String, String)> {
    Err((word.to_owned(), sentence.to_owned()))
}

const HIDDEN: &str = "the script failed; the server's log has the details";

/// A server with Calc and nothing else.
fn calc(app: &mut App) {
    app.script_runtime(Calc);
}

#[test]
fn objects_and_arrays_cross_both_ways() {
    let mut kit = services();
    let given = json!({ "list": [1, [], { "deep": [true, 2.5] }], "empty": {}, "text": "zwei" });
    assert_eq!(kit.rpc("echo", &given.to_string()), Ok(given.to_string()));
    assert_eq!(kit.rpc("gold", "{\"gold\":41}"), Ok("42".to_owned()));
    assert_eq!(kit.rpc("note", ""), Ok(json!({ "id": 1, "tags": ["a", { "b": [] }] }).to_string()));
    assert_eq!(kit.rpc("user", ""), Ok("ada".to_owned()), "`ctx` is the first argument");
}

#[test]
fn languages_call_each_other() {
    let mut kit = services();
    assert_eq!(kit.rpc("double", "21"), Ok("{\"twice\":42}".to_owned()));
    assert_eq!(kit.rpc("lua_echo", "[1,[2]]"), Ok("[1,[2]]".to_owned()));
    assert_eq!(kit.rpc("lua_poor", ""), fault("precondition", "too-poor"), "a refusal passes through");
    let (word, sentence) = kit.rpc("endless", "").unwrap_err();
    assert_eq!((word.as_str(), sentence.as_str()), ("script", HIDDEN), "one request, one budget");
}

#[test]
fn a_refusal_is_told_and_a_defect_is_not() {
    let mut kit = services();
    assert_eq!(kit.rpc("poor", ""), fault("precondition", "too-poor"));
    assert_eq!(
        kit.rpc("many", ""),
        fault("rate_limited", "too-many"),
        "the module says what its numbers mean"
    );
    assert_eq!(kit.rpc("lua_many", ""), fault("rate_limited", "too many"));
    let reply = kit.call("rpc", &json!({ "id": "no_note" })).unwrap_err();
    assert_eq!(reply, Fault::not_found("there is no such note").retry_in_ms(7), "the operation's own fault");
    assert_eq!(kit.rpc("lua_no_note", ""), fault("not_found", "there is no such note"));
    assert_eq!(kit.logs, [], "nothing of this is an error");

    assert_eq!(kit.rpc("other", ""), fault("script", HIDDEN), "a number without a meaning");
    assert_eq!(kit.rpc("broken", ""), fault("script", HIDDEN));
    assert_eq!(kit.rpc("misspelt", ""), fault("script", HIDDEN));
    let logged: Vec<&str> = kit.logs.iter().map(|log| log.text.lines().next().unwrap()).collect();
    assert_eq!(
        logged[..2],
        ["scripts/lib/services.calc:13: some-number", "scripts/lib/services.calc:17: a-defect"]
    );
    let sentence = "scripts/lib/services.calc:15: `precondtion` is no code that a request is refused with";
    assert!(logged[2].starts_with(sentence), "{}", logged[2]);
}

#[test]
fn a_function_of_a_feature_is_there_in_each_language() {
    let mut kit = services();
    assert_eq!(kit.rpc("divide", ""), Ok("[5]".to_owned()), "both results are on the stack");
    assert_eq!(kit.rpc("lua_split", ""), Ok("[3,2]".to_owned()));
    assert_eq!(kit.rpc("slow", ""), Ok("done".to_owned()));
    for (rpc, sentence) in [
        ("zero", "demo.divide: nothing is divided by zero"),
        ("lua_zero", "demo.divide: nothing is divided by zero"),
        ("crowded", "demo.divide: takes 2 arguments at most, 3 were given"),
    ] {
        assert_eq!(kit.rpc(rpc, ""), fault("script", HIDDEN));
        assert!(kit.logs.pop().unwrap().text.contains(sentence), "{rpc}");
    }
}

#[test]
fn a_missing_function_is_told_with_the_nearest() {
    let mut kit = services();
    assert_eq!(
        kit.rpc("ecko", ""),
        fault("not_found", "no script registers an rpc `ecko`. Did you mean `echo`?")
    );
    let wrong = refused(&[("a.lua", "function f() demo.divid(1, 2) kaos.uid() end")], feature);
    assert_eq!(
        wrong,
        [
            "scripts/a.lua:1: there is no `demo.divid`. Did you mean `divide`?",
            "scripts/a.lua:1: there is no `kaos.uid`. Did you mean `uuid`?",
        ]
    );
}

#[test]
fn hooks_of_both_languages_run_in_their_own() {
    let mut kit = kit(&[
        ("hooks.calc", "before note_write\n a1 \"id\" 7 set\nbefore note_read\n null \"not-today\"\n"),
        (
            "after.lua",
            "kaos.register_after('note_write', function(_, request, reply) print(request.id, reply.text) end)",
        ),
    ]);
    let hash = |kit: &mut Kit| kit.scripts(|scripts, _| scripts.hash());
    assert_eq!(hash(&mut kit), 0, "no machine is made before a hook runs");
    let reply = kit.call("note.write", &json!({ "text": "hello" }));
    assert_eq!(reply, Ok(json!({ "id": 7, "text": "hello" })));
    assert_eq!(kit.logs.iter().map(|log| log.text.as_str()).collect::<Vec<_>>(), ["7\thello"]);
    let refused = kit.call("note.read", &json!({ "id": 1 })).unwrap_err();
    assert_eq!(refused, Fault::new(FaultKind::Refused, "not-today"));
    assert_ne!(hash(&mut kit), 0);
}

const ROOM: &str = r#"match_init
 [] a1 "rate" get {"mode":"x"}
match_join
 a1 a2 push
match_leave
 a1
match_loop
 a1 a3 push
match_signal
 a1 [] a2 push
match_join_attempt
 a1 a3 "ok" get "no-seat"
"#;

fn open(kit: &mut Kit, module: &str, params: &Json) -> Result<Box<dyn Match>, MatchError> {
    kit.scripts(|scripts, env| {
        let room = RoomId(Dice::of(1, "room", 0).uuid());
        let opened = scripts.open(env, module, MatchSeed { room, seed: 4 }, params)?;
        assert_eq!((opened.tick_rate, opened.label), (20, json!({ "mode": "x" })));
        Ok(opened.game)
    })
}

#[test]
fn a_match_lives() {
    let mut kit = kit(&[("matches/sums.calc", ROOM)]);
    assert_eq!(kit.server.scripts().matches.into_iter().collect::<Vec<_>>(), ["sums"]);
    let mut game = open(&mut kit, "sums", &json!({ "rate": 20 })).unwrap();
    let ada = Arc::new(PresenceInfo {
        session_id: SessionId(1),
        user_id: "u1".to_owned(),
        username: "ada".to_owned(),
        index: 0,
        connected: true,
        reason: None,
    });
    kit.scripts(|_, env| {
        let admitted = |ok| json!({ "ok": ok });
        assert_eq!(game.join_attempt(env, &ada, &admitted(true)), Ok(Admission::Yes));
        assert_eq!(game.join_attempt(env, &ada, &admitted(false)), Ok(Admission::No("no-seat".to_owned())));
        let message = RoomMessage {
            sender: Some(ada.clone()),
            op: 1,
            data: "hi".into(),
            to: kaos_kernel::codec::TO_ROOM,
            reliable: true,
            frame: 0,
        };
        let (events, messages) = ([RoomFact::Joined(vec![ada.clone()])], [message]);
        let batch = Batch { tick: Some(3), skipped: 0, events: &events, messages: &messages };
        let outcome = game.tick(env, &batch);
        assert_eq!((outcome.errors, outcome.ended), (vec![], false));
        assert_eq!(game.state(), json!([["ada"], ["hi"]]));
        let hash = game.hash();
        assert_eq!(game.signal(env, &json!({ "to": [1] })), Ok(json!([{ "to": [1] }])));
        assert_eq!(game.hash(), hash);
        assert_eq!(game.terminate(env, 3), Ok(()), "an optional callback that is missing does nothing");
    });
}

#[test]
fn a_match_that_breaks_says_where() {
    let broken =
        ROOM.replace(" a1 a3 push", " 1 +").replace(" a1 [] a2 push", " \"full\" \"no-more\" null refuse");
    let mut kit = kit(&[("broken.calc", &broken)]);
    let mut game = open(&mut kit, "broken", &json!({ "rate": 20 })).unwrap();
    kit.scripts(|_, env| {
        let outcome = game.tick(env, &Batch { tick: Some(1), skipped: 0, events: &[], messages: &[] });
        let [error] = &outcome.errors[..] else { panic!("one error: {outcome:?}") };
        assert_eq!((error.callback, error.kind), ("match_loop", MatchErrorKind::Error));
        assert_eq!(&*error.place, "scripts/broken.calc:8");
        assert_eq!(error.message, "scripts/broken.calc:8: the stack is empty");
        assert_eq!(error.stack, ["stack: scripts/broken.calc:8 in match_loop"]);
        let refused = game.signal(env, &json!(1)).unwrap_err();
        assert_eq!(refused.refusal, Some(Fault::new(FaultKind::Full, "no-more")));
    });
    let wrong = open(&mut kit, "broken", &json!({ "rate": 0 })).err().unwrap();
    assert_eq!(
        (wrong.kind, wrong.message.as_str()),
        (
            MatchErrorKind::Contract,
            "scripts/broken.calc: match_init returned tick_rate = 0: it is a whole number and goes from 1 to 128"
        )
    );
}

#[test]
fn a_file_that_no_runtime_takes_is_an_error_that_names_them() {
    let sentence = "scripts/matches/arena.js: no runtime takes this file: Calc takes .calc, Lua takes .lua";
    assert_eq!(refused(&[("matches/arena.js", "")], calc), [sentence]);
    let wrong = refused(&[("a.lua", "require 'lib.sum'"), ("lib/sum.calc", "")], calc);
    assert_eq!(
        wrong,
        [
            "scripts/a.lua:1: require: module 'lib.sum' not found: no scripts/lib/sum.lua, no scripts/lib/sum/init.lua; \
          scripts/lib/sum.calc is in another language, and only files that end in .lua can be required here"
        ]
    );
    // In a folder, what is clearly no script may lie beside them.
    let dir = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("foreign");
    std::fs::create_dir_all(dir.join("matches")).unwrap();
    for name in ["README.md", ".luarc.json", "kaos.d.lua", "matches/arena.js", "sums.calc"] {
        std::fs::write(dir.join(name), "").unwrap();
    }
    let built = kaos_kernel::server::Server::build(Default::default(), |app| {
        app.add_plugins(Scripts::from_dir(&dir));
    });
    let shown = |name: &str| format!("{}/{name}: no runtime takes this file: Lua takes .lua", dir.display());
    assert_eq!(built.err().unwrap().0, [shown("matches/arena.js"), shown("sums.calc")]);
}

#[test]
fn a_name_belongs_to_one_script_function_module_and_runtime() {
    let files = [("a.calc", "rpc twice\n"), ("b.lua", "kaos.register_rpc('twice', print)")];
    assert_eq!(
        refused(&files, calc),
        ["scripts/b.lua:1: 'twice' is registered already, at scripts/a.calc:1"]
    );
    let files = [("sums.calc", ROOM), ("matches/sums.calc", ROOM)];
    let message = "scripts/sums.calc: the match `sums` is in scripts/matches/sums.calc already: rename one of the files";
    assert_eq!(refused(&files, calc), [message]);
    let twice = |app: &mut App| {
        calc(app);
        calc(app);
    };
    assert_eq!(refused(&[], twice), ["two runtimes take files that end in .calc: Calc and Calc"]);
    let twice = |app: &mut App| {
        feature(app);
        feature(app);
    };
    let wrong = refused(&[], twice);
    let own = refused(&[], |app| {
        app.script_function(ScriptFunction::new("kaos", "time_now", |_, _| Ok(vec![])));
    });
    assert_eq!(own, ["the script function `kaos.time_now` is there already: give yours another name"]);
    assert!(
        wrong.contains(
            &"the script function `demo.divide` is there already: give yours another name".to_owned()
        ),
        "{wrong:?}"
    );
    assert!(build(&[("half.calc", "match_loop\n")], calc).is_err_and(|error| {
        error.0 == ["scripts/half.calc: this match lacks match_init, match_join, match_leave"]
    }));
}
