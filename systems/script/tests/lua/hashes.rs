//! The canonical hash: equal for equal states, whatever their history; different for different ones.

use kaos_script::lua::Vm;
use kaos_script::runtime::StateHash;

use super::{Desk, config};

fn hash_of(seed: u64, text: &str) -> StateHash {
    let mut vm = Vm::new(config(seed, &[("a.lua", text)])).unwrap();
    vm.load(&mut Desk::default(), "a.lua").unwrap();
    vm.hash()
}

#[test]
fn equal_states_have_equal_hashes() {
    for (a, b) in [
        ("t = { a = 1, b = 2, c = 3 }", "t = {} t.c = 3 t.b = 2 t.a = 1"),
        ("t = {} for i = 1, 100 do t['k' .. i] = i end", "t = {} for i = 100, 1, -1 do t['k' .. i] = i end"),
        ("t = { 1, 2, 3 }", "t = { [3] = 3, [2] = 2, [1] = 1, [4] = 4 } t[4] = nil"),
        ("t = {} t.me = t", "local u = {} u.me = u t = u"),
        ("t = 0 / 0", "t = -(0 / 0)"),
        ("local x = {} t = { x, x }", "t = {} t[1] = {} t[2] = t[1]"),
    ] {
        assert_eq!(hash_of(1, a).hash, hash_of(2, b).hash, "{a} | {b}");
    }
}

#[test]
fn different_states_have_different_hashes() {
    let mut seen = std::collections::BTreeMap::new();
    for text in [
        "",
        "t = 1",
        "t = 1.0",
        "t = '1'",
        "t = true",
        "t = {}",
        "t = { {} }",
        "t = { {}, {} }",
        "local x = {} t = { x, x }",
        "t = {} t.me = t",
        "t = { me = { } }",
        "t = 0.0",
        "t = -0.0",
        "u = 1",
        "t = setmetatable({}, {})",
        "t = setmetatable({}, { __index = {} })",
        "t = { a = 1 }",
        "t = { b = 1 }",
        "local n = 1 t = function() return n end",
        "local n = 2 t = function() return n end",
        "t = print",
        "t = string",
        "string = nil",
        "t = coroutine.create(print)",
        "t = coroutine.create(error)",
        "t = coroutine.wrap(print)",
        "t = coroutine.wrap(error)",
        "t = coroutine.create(function(...) local n = 1 coroutine.yield() end) coroutine.resume(t)",
        "t = coroutine.create(function(...) local n = 2 coroutine.yield() end) coroutine.resume(t)",
        "t = coroutine.create(function(...) local n = 1 coroutine.yield() end) coroutine.resume(t, 5)",
        "t = coroutine.create(function(...) local n = 1 coroutine.yield() end) coroutine.resume(t, {})",
        "t = coroutine.create(function(...) local n = 1\n coroutine.yield() end) coroutine.resume(t)",
        "t = coroutine.create(function() local function f() coroutine.yield() end f() end) coroutine.resume(t)",
        "string.mine = 1",
        "string.mine = 2",
        "math.mine = { 1 }",
        "kaos.mine = { 2 }",
        "string.rep = nil",
        "getmetatable('').mine = 1",
        "math.random()",
        "math.random() math.random()",
        "math.randomseed(5)",
        "t = 'ab' u = 'c'",
        "t = 'a' u = 'bc'",
    ] {
        let hash = hash_of(1, text);
        assert!(hash.complete);
        if let Some(other) = seen.insert(hash.hash, text) {
            panic!("{text:?} and {other:?} have one hash");
        }
    }
}

#[test]
fn what_functions_hold_is_state() {
    let text = "local hidden = 0 return { f = function() hidden = hidden + 1 end }";
    let mut vm = Vm::new(config(1, &[("a.lua", text)])).unwrap();
    let mut desk = Desk::default();
    let module = vm.load(&mut desk, "a.lua").unwrap().value;
    let f = vm.function(&module, "f").unwrap().unwrap();
    let before = vm.hash();
    assert_eq!(vm.hash(), before);
    vm.call(&mut desk, "f", f, &[], 1000).unwrap();
    assert_ne!(vm.hash().hash, before.hash);
}

#[test]
fn hashing_leaves_no_trace() {
    let text = "t = {} for i = 1, 5000 do t[i] = { i, tostring(i), x = i / 3 } end";
    let mut vm = Vm::new(config(1, &[("a.lua", text)])).unwrap();
    vm.load(&mut Desk::default(), "a.lua").unwrap();
    vm.hash();
    let before = vm.memory_bytes();
    let first = vm.hash();
    assert!(first.values > 30_000 && first.complete, "{first:?}");
    assert_eq!(vm.memory_bytes(), before);
    let mut fresh = Vm::new(config(1, &[("a.lua", text)])).unwrap();
    fresh.load(&mut Desk::default(), "a.lua").unwrap();
    assert_eq!(fresh.memory_bytes(), before, "the first hash left something behind");
    // A long list of links, which would overflow a walk that recurses.
    let deep = hash_of(1, "t = {} for i = 1, 50000 do t = { t } end");
    assert!(deep.complete);
}

#[test]
fn a_state_too_large_is_told() {
    let text = "t = {} for i = 1, 120000 do t[i] = {} end";
    let mut config = config(1, &[("a.lua", text)]);
    config.limits.memory_bytes = 64 << 20;
    config.limits.load_fuel = 50_000_000;
    let mut vm = Vm::new(config).unwrap();
    vm.load(&mut Desk::default(), "a.lua").unwrap();
    let hash = vm.hash();
    assert!(!hash.complete);
    assert_eq!(vm.hash(), hash);
}
