//! What a script refuses reaches whoever asked as what it is; a defect stays hidden.

use kaosnet::prelude::*;
use kaosnet::testing::{Player, Test, server_of};
use serde_json::json;

const RPCS: &str = r#"
    local raise = {
      poor = function() error({ code = "precondition", message = "not enough gold" }) end,
      plain = function() error({ message = "no" }) end,
      coded = function() error({ code = "full" }) end,
      wrapped = function() coroutine.wrap(function() error({ code = "denied", message = "not yours" }) end)() end,
      misspelt = function() error({ code = "precondtion", message = "x" }) end,
      miskeyed = function() error({ cod = "full", message = "x" }) end,
      servers = function() error({ code = "internal", message = "x" }) end,
      numbered = function() error({ code = 9, message = "x" }) end,
      text = function() error("a defect") end,
      passed = function() kaos.vault_open() end,
      caught = function()
        local ok, wrong = pcall(function() kaos.vault_open() end)
        return tostring(ok) .. " " .. wrong
      end,
      forgotten = function()
        pcall(kaos.vault_open)
        error("another defect")
      end,
      again = function()
        local _, wrong = pcall(kaos.vault_open)
        error(wrong, 0)
      end,
      broken = function() kaos.vault_break() end,
      mistyped = function() kaos.vault_open(5) end,
      nested = function() kaos.rpc("raise", "poor") end,
    }
    kaos.register_rpc("raise", function(_, what) return raise[what]() end)
    kaos.register_before("vault_open", function(ctx)
      if ctx.username == "eve" then error({ code = "denied", message = "not eve" }) end
      return {}
    end)"#;

const MATCH: &str = r#"
    local M = {}
    function M.match_init() return { state = {}, tick_rate = 10 } end
    function M.match_join_attempt(_, s, who)
      if who.username == "eve" then error({ code = "full", message = "not for eve" }) end
      return s, true
    end
    function M.match_join(_, s) return s end
    function M.match_leave(_, s) return s end
    function M.match_loop(_, s) return s end
    return M"#;

fn vault(app: &mut App) {
    let open = async |_: Call, _: Option<serde_json::Map<String, serde_json::Value>>| -> Result<(), Fault> {
        Err(Fault::new(FaultKind::Precondition, "the vault is shut").retry_in_ms(70))
    };
    let broken = async |_: Call,
                        _: Option<serde_json::Map<String, serde_json::Value>>|
           -> Result<(), Fault> { Err(Fault::internal("a secret of the plugin")) };
    app.op(Op::new("vault.open").price(1), open).op(Op::new("vault.break").price(1), broken);
}

fn start() -> (Test, Player) {
    let scripts = [("rpcs.lua", RPCS), ("matches/club.lua", MATCH)];
    let mut t = server_of(scripts).plugins(vault).start();
    let ada = t.connect("ada");
    (t, ada)
}

#[test]
fn an_rpc_refuses_with_a_word_of_the_fault_table() {
    let (mut t, ada) = start();
    for (what, kind, message) in [
        ("poor", FaultKind::Precondition, "not enough gold"),
        ("plain", FaultKind::Refused, "no"),
        ("coded", FaultKind::Full, "no seat is free"),
        ("wrapped", FaultKind::Denied, "not yours"),
        ("passed", FaultKind::Precondition, "the vault is shut"),
        ("again", FaultKind::Precondition, "the vault is shut"),
        ("nested", FaultKind::Precondition, "not enough gold"),
    ] {
        let fault = ada.rpc("raise", what).expect_err(what);
        assert_eq!((fault.kind, &*fault.message), (kind, message), "{what}");
        assert_eq!(fault.retry_ms, if message == "the vault is shut" { 70 } else { 0 }, "{what}");
    }
    assert_eq!(t.logs(), [], "a refusal is no error");
    let caught = ada.rpc("raise", "caught").expect("it is a text, as ever");
    let caught = String::from_utf8_lossy(&caught).into_owned();
    assert!(caught.starts_with("false scripts/rpcs.lua:"), "{caught}");
    assert!(caught.ends_with(": kaos.vault_open: the vault is shut"), "{caught}");
    t.replays_equally();
}

#[test]
fn a_defect_stays_hidden_and_is_written_to_the_log() {
    let (mut t, ada) = start();
    for (what, logged) in [
        ("misspelt", "`precondtion` is not a code that a request is refused with"),
        ("miskeyed", "a refusal has no field `cod`. Did you mean `code`?"),
        ("servers", "`internal` is not a code that a request is refused with"),
        ("numbered", "x (code 9)"),
        ("text", "a defect"),
        ("forgotten", "another defect"),
        ("broken", "a secret of the plugin"),
        ("mistyped", "the request is 5"),
    ] {
        let fault = ada.rpc("raise", what).expect_err(what);
        let told = "the script failed; the server's log has the details";
        assert_eq!((fault.kind, &*fault.message), (FaultKind::Script, told), "{what}");
        let logs = t.logs();
        assert!(logs.len() == 1 && logs[0].text.contains(logged), "{what}: {logs:?}");
        assert!(logs[0].text.starts_with("scripts/rpcs.lua:"), "{what}: {logs:?}");
    }
}

#[test]
fn a_hook_and_a_match_refuse_in_the_same_way() {
    let (mut t, ada) = start();
    let eve = t.connect("eve");
    assert_eq!(ada.join("club").map(|joined| joined.created), Ok(true));
    let fault = eve.join_id(&t.room("club").id().to_string()).expect_err("not eve");
    assert_eq!((fault.kind, &*fault.message), (FaultKind::Full, "not for eve"));
    let fault = eve.call("vault.open", &json!({})).expect_err("not eve");
    assert_eq!((fault.kind, &*fault.message), (FaultKind::Denied, "not eve"));
    let fault = ada.call("vault.open", &json!({})).expect_err("shut");
    assert_eq!((fault.kind, &*fault.message), (FaultKind::Precondition, "the vault is shut"));
    assert_eq!(t.logs(), [], "a refusal is no error");
    t.replays_equally();
}
