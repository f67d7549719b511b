//! What people read when a script fails.

use kaos_kernel::output::Level;
use kaos_script::ErrorKind;
use kaos_script::lua::Vm;
use kaos_script::runtime::Limits;
use kaos_script::{Broadcast, Host, Value};

use super::{Desk, config, eval, eval_with, load};

#[test]
fn an_error_names_file_line_and_stack() {
    let text = "local function move(p)\n  p.x = p.x + p.vx\nend\nreturn { match_loop = function()\n  move({ x = 1 })\n  return 1\nend }";
    let (mut vm, mut desk, module) = load(text);
    let function = vm.function(&module.unwrap(), "match_loop").unwrap().unwrap();
    let error = vm.call(&mut desk, "match_loop", function, &[], 10_000).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Error);
    assert_eq!(
        error.to_string(),
        "scripts/a.lua:2: attempt to perform arithmetic on a nil value (field 'vx')"
    );
    assert_eq!((error.file.as_str(), error.line), ("scripts/a.lua", 2));
    assert_eq!(error.traceback, ["scripts/a.lua:2 in move", "scripts/a.lua:5 in match_loop"]);
    assert_eq!(error.stack_line(), "stack: scripts/a.lua:2 in move < scripts/a.lua:5 in match_loop");
}

#[test]
fn text_that_is_no_lua_names_its_line() {
    let (_, _, module) = load("local x = 1\nlocal y = = 2\n");
    let error = module.unwrap_err();
    assert_eq!(error.to_string(), "scripts/a.lua:2: unexpected symbol near '='");
    assert_eq!(error.kind, ErrorKind::Error);
}

#[test]
fn a_missing_file_is_named() {
    let mut vm = Vm::new(config(1, &[("matches/arena.lua", "")])).unwrap();
    let error = vm.load(&mut Desk::default(), "arena.lua").unwrap_err();
    assert_eq!(
        error.to_string(),
        "module 'arena.lua' not found: no scripts/arena.lua, no scripts/arena/init.lua; there is scripts/matches/arena.lua"
    );
}

#[test]
fn errors_of_the_host_have_the_line_of_the_script() {
    let error = eval("\nkaos.broadcast('nowhere', nil, 'x')").unwrap_err();
    assert_eq!(error.to_string(), "scripts/a.lua:2: kaos.broadcast: there is no room nowhere");
    let mut desk = Desk { answer: Some(Err("not now".to_owned())), ..Desk::default() };
    let error = eval_with("kaos.room_label(1)", &mut desk, &[]).unwrap_err();
    assert_eq!(error.to_string(), "scripts/a.lua:1: kaos.room_label: not now");
    assert_eq!(desk.calls, [(1, vec![Value::Int(1)])]);
    let error = eval("kaos.room_label(print)").unwrap_err();
    assert_eq!(error.message, "kaos.room_label: argument 1: a function is not plain data");
    // And a script can catch it.
    let caught = eval("return pcall(kaos.broadcast, 'nowhere', nil, 'x')").unwrap();
    assert_eq!(caught, [Value::Bool(false), Value::text("kaos.broadcast: there is no room nowhere")]);
}

#[test]
fn anything_can_be_an_error() {
    for (text, shown) in [
        ("error({})", "the error is a table"),
        ("error()", "the error is nil"),
        ("error({ code = 7, message = 'no gold' })", "no gold (code 7)"),
        ("error({ message = 'no gold' })", "no gold"),
        ("error({ code = 'full' })", "the error is a table with the code full"),
        (
            "error({ code = 'ful' })",
            "`ful` is no code that a request is refused with: it is one of invalid, deadline, not_found, exists, denied, \
             rate_limited, precondition, full, refused, unimplemented, busy, unauthenticated. Did you mean `full`?",
        ),
        ("error({ message = {}, code = print })", "the error is a table"),
        ("error(setmetatable({}, { __index = error }))", "the error is a table"),
        ("error(12)", "12"),
        ("error('plain', 0)", "plain"),
        ("error('x', 1)", "x"),
        ("error(setmetatable({}, { __tostring = error }))", "the error is a table"),
        ("error(('x'):rep(100000), 0)", &"x".repeat(2048)),
        ("coroutine.wrap(function() error('inside') end)()", "inside"),
    ] {
        let error = eval(text).unwrap_err();
        assert_eq!((error.message.as_str(), error.line), (shown, 1), "{text}");
        assert_eq!(error.kind, ErrorKind::Error);
    }
}

#[test]
fn fuel_that_is_spent_is_told_whatever_the_script_does() {
    for text in [
        "while true do end",
        "pcall(function() while true do end end)",
        "return pcall(function() while true do end end)",
        "local co = coroutine.wrap(function() while true do end end) return pcall(co)",
        "return xpcall(function() while true do end end, function() return 1 end)",
        "return ('a'):rep(200):find(('a-'):rep(12) .. 'b')",
        "local x <close> = setmetatable({}, { __close = function() while true do end end }) return 1",
    ] {
        let error = eval(text).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Fuel, "{text}: {error}");
        assert_eq!(error.to_string(), "scripts/a.lua:1: out of fuel: f may use 5000000 and was stopped");
        assert!(error.traceback.iter().any(|line| line.starts_with("scripts/a.lua:1 in ")), "{error:?}");
    }
}

#[test]
fn the_machine_is_whole_after_fuel_and_depth() {
    let text = "n = 0 return { spin = function() while true do n = n + 1 end end, deep = function() local function f() return 1 + f() end return f() end, get = function() return n end }";
    let (mut vm, mut desk, module) = load(text);
    let module = module.unwrap();
    let [spin, deep, get] = ["spin", "deep", "get"].map(|name| vm.function(&module, name).unwrap().unwrap());
    let first = vm.call(&mut desk, "spin", spin, &[], 10_000).unwrap_err();
    assert_eq!(first.kind, ErrorKind::Fuel);
    let error = vm.call(&mut desk, "deep", deep, &[], 5_000_000).unwrap_err();
    assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Depth, "stack overflow"));
    assert_eq!(error.traceback.len(), 16);
    let called = vm.call(&mut desk, "get", get, &[], 10_000).unwrap();
    let Value::Int(n) = called.value[0] else { panic!("{:?}", called.value) };
    assert!(n > 9_000, "{n}");
    assert!(called.fuel > 0 && called.fuel < 20, "{}", called.fuel);
}

#[test]
fn depth_has_its_kind_in_c_too() {
    for text in [
        "local function f(s) return (s:gsub('.', f)) end return f('x')",
        "return load('return ' .. ('('):rep(10000)) or error('C stack overflow', 0)",
        "local t = setmetatable({}, {}) getmetatable(t).__index = function(t, k) return t[k] end return t.x",
    ] {
        assert_eq!(eval(text).unwrap_err().kind, ErrorKind::Depth, "{text}");
    }
}

#[test]
fn memory_that_is_spent_is_told() {
    let mut config =
        config(1, &[("a.lua", "local t = {} while true do t[#t + 1] = ('x'):rep(10000) .. #t end")]);
    config.limits = Limits { memory_bytes: 1 << 20, ..Limits::default() };
    let mut vm = Vm::new(config).unwrap();
    let error = vm.load(&mut Desk::default(), "a.lua").unwrap_err();
    assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Memory, "not enough memory"));
    assert!(vm.memory_bytes() <= 1 << 20);
}

#[test]
fn results_that_are_no_plain_data_break_the_contract() {
    for (text, message) in [
        ("return print", "f returned a function is not plain data"),
        ("local t = {} t.t = t return t", "f returned tables too deep, or a cycle at t.t.t.t.t.t.t.t"),
        ("return { [1.5] = 1 }", "f returned a number as a key"),
        ("return { a = { { b = print } } }", "f returned a function is not plain data at a.1.b"),
    ] {
        let error = eval(text).unwrap_err();
        assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Contract, message), "{text}");
    }
}

#[test]
fn a_panic_of_the_host_goes_through() {
    let text = "return { f = function() return pcall(kaos.broadcast, 'r', nil, 'x') end }";
    let (mut vm, _, module) = load(text);
    let function = vm.function(&module.unwrap(), "f").unwrap().unwrap();
    let mut desk = Desk { panics: true, ..Desk::default() };
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        vm.call(&mut desk, "f", function, &[], 10_000).map(|_| ())
    }));
    assert_eq!(caught.unwrap_err().downcast_ref::<&str>(), Some(&"the host's own mistake"));
}

#[test]
fn logs_are_bounded() {
    let mut desk = Desk::default();
    eval_with("print('a', 1, nil, true) kaos.logger_warn('w') kaos.logger_error(2.5)", &mut desk, &[])
        .unwrap();
    let expected = [(Level::Info, "a\t1\tnil\ttrue"), (Level::Warn, "w"), (Level::Error, "2.5")];
    assert_eq!(desk.logs, expected.map(|(level, line)| (level, line.to_owned())));
    let mut desk = Desk::default();
    eval_with("for i = 1, 150 do print(('x'):rep(10000)) end", &mut desk, &[]).unwrap();
    assert_eq!(desk.logs.len(), 101);
    assert_eq!(desk.logs[0].1.len(), 4096);
    assert_eq!(desk.logs[100].1, "50 more lines were dropped: a call may log 100");
}

#[test]
fn a_machine_needs_memory() {
    let mut config = config(1, &[]);
    config.limits.memory_bytes = 1000;
    assert_eq!(Vm::new(config).err().unwrap().kind, ErrorKind::Memory);
}

/// The host trait is usable as an object and without a machine.
#[test]
fn hosts_are_objects() {
    let mut desk = Desk::default();
    let host: &mut dyn Host = &mut desk;
    host.broadcast(Broadcast { room: "r", sender: None, data: b"", to: None, op: 0, reliable: true })
        .unwrap();
    assert_eq!(desk.broadcasts.len(), 1);
}

#[test]
fn arguments_cost_what_is_read_of_them_whatever_becomes_of_it() {
    let budget = 100_000;
    for (made, call) in [
        ("for i = 1, 5000 do t[i] = i end", "kaos.room_label(t)"),
        ("for i = 1, 5000 do t[i] = i end t[5001] = print", "pcall(kaos.room_label, t)"),
        ("for i = 1, 5000 do t[i] = i end", "pcall(kaos.room_label, t, t, t, t, print)"),
        ("t[1] = ('x'):rep(500000)", "kaos.room_label(t)"),
        ("t[1] = ('x'):rep(500000)", "pcall(kaos.room_label, t, t, t)"),
        ("for i = 1, 5000 do t[i] = i end t[5001] = print", "pcall(kaos.json_encode, t)"),
        (
            "for i = 1, 5000 do t[i] = '0000000000000001' end t[5001] = 7",
            "pcall(kaos.broadcast, 'r', nil, 'x', t)",
        ),
        ("t[1] = ('x'):rep(60000)", "pcall(kaos.broadcast, 'r', nil, t[1], 5)"),
    ] {
        let text = format!(
            "return {{ make = function() local t = {{}} {made} return t end, f = function() for i = 1, 1000 do {call} end end }}"
        );
        let text =
            text.replace("f = function()", "f = function() local t = T").replace("return t end", "T = t end");
        let (mut vm, mut desk, module) = load(&text);
        let module = module.unwrap();
        let make = vm.function(&module, "make").unwrap().unwrap();
        vm.call(&mut desk, "make", make, &[], 5_000_000).unwrap();
        let f = vm.function(&module, "f").unwrap().unwrap();
        let error = vm.call(&mut desk, "f", f, &[], budget).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Fuel, "{call}");
        assert!(desk.calls.len() < 30, "{call}: {}", desk.calls.len());
        assert!(error.fuel > budget);
    }
}

#[test]
fn broadcasts_that_would_go_nowhere_or_otherwise_are_refused() {
    for (text, shown) in [
        (
            "kaos.broadcast('r', nil, 'x', { session_id = '0000000000000001' })",
            "presences is a table without a list: put a presence into one, { presence }",
        ),
        (
            "kaos.broadcast('r', nil, 'x', nil, { relaible = false })",
            "options has no field `relaible`. Did you mean `reliable`?",
        ),
        (
            "kaos.broadcast('r', nil, 'x', nil, { mode = 1 })",
            "options has no field `mode`: its fields are op and reliable",
        ),
        (
            "kaos.broadcast('r', nil, 'x', nil, { 'op' })",
            "options has a number as a key: its fields are op and reliable",
        ),
        (
            "kaos.broadcast('r', nil, 'x', nil, { reliable = 'no' })",
            "reliable is a string, not true or false",
        ),
        ("kaos.broadcast('r', nil, 'x', nil, { op = '7' })", "op is not an integer from 0 to 255"),
    ] {
        assert_eq!(eval(text).unwrap_err().message, format!("kaos.broadcast: {shown}"), "{text}");
    }
    let mut desk = Desk::default();
    eval_with("kaos.broadcast('r', nil, 'x', {}, { op = 7, reliable = false })", &mut desk, &[]).unwrap();
    assert_eq!(
        (desk.broadcasts[0].to.as_deref(), desk.broadcasts[0].op, desk.broadcasts[0].reliable),
        (Some(&[][..]), 7, false)
    );
}
