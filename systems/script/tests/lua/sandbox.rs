//! What a script finds, and what it does not.

use kaos_script::Value;
use kaos_script::functions::OWN;
use kaos_script::lua::Vm;
use kaos_script::runtime::RegisterKind;

use super::{Desk, config, eval, load, one};

#[test]
fn nothing_reaches_out() {
    for name in [
        "io",
        "os",
        "debug",
        "package",
        "dofile",
        "loadfile",
        "collectgarbage",
        "warn",
        "string.dump",
        "_G.io",
        "getmetatable('').__index.dump",
    ] {
        assert_eq!(one(&format!("return {name}")), Value::Nil, "{name}");
    }
    for name in
        ["table.sort", "string.pack", "math.random", "coroutine.wrap", "utf8.len", "load", "pcall", "select"]
    {
        assert_eq!(one(&format!("return type({name})")), Value::text("function"), "{name}");
    }
}

#[test]
fn bytecode_is_refused() {
    let loaded = eval("return load('\\27Lua', 'x', 'b')").unwrap();
    assert_eq!(loaded[0], Value::Nil);
    assert_eq!(loaded[1], Value::text("attempt to load a binary chunk (mode is 't')"));
    assert_eq!(one("return load('return 1 + 1')()"), Value::Int(2));
    let mut vm = Vm::new(config(1, &[("a.lua", "\x1bLua")])).unwrap();
    let error = vm.load(&mut Desk::default(), "a.lua").unwrap_err();
    assert!(error.message.contains("binary chunk"), "{error}");
}

#[test]
fn a_byte_order_mark_and_a_first_line_with_a_hash_are_skipped_as_stock_lua_does() {
    for (text, line) in [
        ("\u{feff}error('here')", 1),
        ("#!/usr/bin/lua\nerror('here')", 2),
        ("\u{feff}# words\r\n\nerror('here')", 3),
    ] {
        let error = load(text).2.unwrap_err();
        assert_eq!(error.to_string(), format!("scripts/a.lua:{line}: here"));
    }
    assert!(load("#").2.is_ok());
}

#[test]
fn finalisers_are_refused() {
    let error = eval("setmetatable({}, { __gc = print })").unwrap_err();
    assert!(error.message.starts_with("'__gc' is not available"), "{error}");
}

#[test]
fn random_numbers_come_from_the_seed() {
    let draw = |seed| {
        let mut vm =
            Vm::new(config(seed, &[("a.lua", "return { f = function() return math.random(1 << 40) end }")]))
                .unwrap();
        let mut desk = Desk::default();
        let module = vm.load(&mut desk, "a.lua").unwrap().value;
        let f = vm.function(&module, "f").unwrap().unwrap();
        vm.call(&mut desk, "f", f, &[], 1000).unwrap().value
    };
    assert_eq!(draw(3), draw(3));
    assert_ne!(draw(3), draw(4));
}

#[test]
fn require_runs_a_file_once() {
    let files = [
        (
            "a.lua",
            "local b, c = require('lib.b'), require('lib/b') b.n = b.n + 1 return { f = function() return c.n, count, require('lib.none') end }",
        ),
        ("lib/b.lua", "count = (count or 0) + 1 return { n = 41 }"),
        ("lib/none.lua", ""),
    ];
    let mut vm = Vm::new(config(1, &files)).unwrap();
    let mut desk = Desk::default();
    let module = vm.load(&mut desk, "a.lua").unwrap().value;
    vm.load(&mut desk, "a").unwrap();
    let f = vm.function(&module, "f").unwrap().unwrap();
    let values = vm.call(&mut desk, "f", f, &[], 10_000).unwrap().value;
    assert_eq!(values, [Value::Int(42), Value::Int(1), Value::Bool(true)]);
}

#[test]
fn require_errors_are_sentences() {
    let files = [
        ("a.lua", "return require('b')"),
        ("b.lua", "return require('c')"),
        ("c.lua", "\nreturn require('a')"),
        ("out.lua", "require('../../etc/passwd')"),
        ("gone.lua", "require('game.combat')"),
        ("bad.lua", "require('worse')"),
        ("worse.lua", "\n\nlocal x = nil + 1"),
        (
            "again.lua",
            "return { f = function() local a, b = pcall(require, 'worse'), pcall(require, 'worse') return select(2, pcall(require, 'worse')) end }",
        ),
    ];
    let mut vm = Vm::new(config(1, &files)).unwrap();
    let mut desk = Desk::default();
    for (path, sentence) in [
        (
            "a.lua",
            "scripts/c.lua:2: require: a.lua is being loaded: it requires itself, directly or through others",
        ),
        (
            "out.lua",
            "scripts/out.lua:1: require: a module name is made of letters, digits, _ and -, with dots between folders",
        ),
        (
            "gone.lua",
            "scripts/gone.lua:1: require: module 'game.combat' not found: no scripts/game/combat.lua, no scripts/game/combat/init.lua",
        ),
        ("bad.lua", "scripts/worse.lua:3: attempt to perform arithmetic on a nil value"),
    ] {
        let error = vm.load(&mut desk, path).unwrap_err();
        assert_eq!(error.to_string(), sentence);
    }
    let error = vm.load(&mut desk, "bad.lua").unwrap_err();
    assert_eq!(
        error.traceback,
        ["scripts/worse.lua:3 in main chunk", "[C] in require", "scripts/bad.lua:1 in main chunk"]
    );
    // A file that failed is tried again, not taken for one that is being loaded.
    let module = vm.load(&mut desk, "again.lua").unwrap().value;
    let f = vm.function(&module, "f").unwrap().unwrap();
    let values = vm.call(&mut desk, "f", f, &[], 10_000).unwrap().value;
    assert_eq!(values[0], Value::text("scripts/worse.lua:3: attempt to perform arithmetic on a nil value"));
}

#[test]
fn handlers_are_registered_while_a_file_loads() {
    let text = "kaos.register_rpc('echo', function(ctx, x) return x end)\nkaos.register_before('room_join', function() end)\nfunction late() kaos.register_rpc('late', print) end return { late = late }";
    let (mut vm, mut desk, module) = load(text);
    let rows = vm.registered();
    let shown: Vec<_> = rows.iter().map(|row| (row.kind, row.name.as_str(), row.place.as_str())).collect();
    let expected = [
        (RegisterKind::Rpc, "echo", "scripts/a.lua:1"),
        (RegisterKind::Before, "room_join", "scripts/a.lua:2"),
    ];
    assert_eq!(shown, expected);
    let echoed =
        vm.call(&mut desk, "rpc echo", rows[0].function, &[Value::Nil, Value::Int(3)], 1000).unwrap();
    assert_eq!(echoed.value, [Value::Int(3)]);
    let late = vm.function(&module.unwrap(), "late").unwrap().unwrap();
    let error = vm.call(&mut desk, "late", late, &[], 1000).unwrap_err();
    assert_eq!(error.message, "kaos.register_rpc: only while a file is loaded, not in a callback");
}

#[test]
fn a_name_is_registered_once() {
    for (text, sentence) in [
        (
            "kaos.register_rpc('x', print)\nkaos.register_rpc('x', print)",
            "scripts/a.lua:2: kaos.register_rpc: 'x' is registered already, at scripts/a.lua:1",
        ),
        (
            "kaos.register_rpc('x')",
            "scripts/a.lua:1: kaos.register_rpc: the handler of 'x' is nil, not a function",
        ),
        (
            "kaos.register_after('', print)",
            "scripts/a.lua:1: kaos.register_after: the name is a string of 1 to 128 bytes",
        ),
    ] {
        let (_, _, module) = load(text);
        assert_eq!(module.unwrap_err().to_string(), sentence);
    }
}

#[test]
fn garbage_is_collected_by_bytes_and_ticks() {
    let run = || {
        let text = "return { f = function() local t = {} for i = 1, 500 do t[i] = { i } end return #t end }";
        let (mut vm, mut desk, module) = load(text);
        let f = vm.function(&module.unwrap(), "f").unwrap().unwrap();
        let mut log = Vec::new();
        for tick in 0..200 {
            vm.call(&mut desk, "f", f, &[], 100_000).unwrap();
            log.push((vm.rest(tick), vm.memory_bytes()));
        }
        log
    };
    let log = run();
    assert!(log.iter().filter(|(collected, _)| *collected).count() > 10);
    assert!(log.iter().all(|(_, bytes)| *bytes < 300_000), "{:?}", log.iter().map(|(_, b)| b).max());
    assert_eq!(log, run());
}

#[test]
fn kaos_has_its_own_functions_and_those_of_the_host() {
    let names = one("local n = {} for k in pairs(kaos) do n[#n + 1] = k end table.sort(n) return n");
    let mut known = OWN.map(str::to_owned).to_vec();
    known.extend(config(1, &[]).functions.iter().map(|function| function.name.clone()));
    known.sort();
    assert_eq!(names, Value::List(known.iter().map(Value::text).collect()));
}
