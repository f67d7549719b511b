//! What work costs in fuel: a floor for each kind of work, counted; and the time of a unit, printed.

#![cfg(target_os = "linux")] // the clock of a thread, for the times that are printed
#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and reports by printing; the clock of a thread is a C function"
)]

use kaos_lua::{Meter, UNLIMITED, new_state};
use mlua::{Lua, StdLib};

const MEMORY: usize = 16 << 20;

fn vm() -> (Lua, Meter) {
    let libs = StdLib::TABLE | StdLib::STRING | StdLib::MATH | StdLib::COROUTINE | StdLib::UTF8;
    let lua = new_state(7, libs).unwrap();
    lua.gc_stop();
    lua.set_memory_limit(MEMORY).unwrap();
    let meter = Meter::of(&lua).unwrap();
    (lua, meter)
}

/// Fills the heap to its limit, `piece` by `piece`, with fuel for everything but the collection, and gives
/// back what was left, what the collection took, and where the fuel ended.
fn fill(piece: &str) -> (i64, i64, String) {
    let (lua, meter) = vm();
    lua.load("keep = {}").exec().unwrap();
    let source = format!("local keep, n = keep, 0\nwhile true do\n  n = n + 1\n  keep[n] = {piece}\nend");
    let function = lua.load(source).set_name("@fill.lua").into_function().unwrap();
    meter.set(100_000_000);
    let result = function.call::<()>(());
    let (left, emergency, trace) = (meter.left(), meter.emergency_fuel(), meter.take_trace());
    meter.set(UNLIMITED);
    assert!(result.is_err());
    assert_eq!(meter.emergency_fuel(), 0, "forgotten with the next account");
    let place = trace.first().map(|f| format!("{}:{}", f.source, f.line.unwrap_or(0))).unwrap_or_default();
    (left, emergency, place)
}

#[test]
fn a_collection_at_the_memory_limit_is_paid_by_its_work_and_told() {
    let (_, tables, _) = fill("{ n }");
    let (_, strings, _) = fill("('x'):rep(100000) .. n");
    // 16 MiB are about 150,000 small tables, each visited and swept, or 160 strings; there are two
    // collections: one for the script, one for mlua, which makes the error.
    assert!((150_000..1_500_000).contains(&tables), "{tables}");
    assert!((1..10_000).contains(&strings), "{strings}");
}

#[test]
fn without_an_emergency_none_is_told() {
    let (lua, meter) = vm();
    meter.set(1000);
    assert!(lua.load("while true do local t = {} end").exec().is_err());
    assert!(meter.left() < 0);
    assert_eq!(meter.emergency_fuel(), 0);
    meter.set(UNLIMITED);
}

#[test]
fn a_budget_ended_by_the_collection_says_so_and_where() {
    let (lua, meter) = vm();
    let source = "keep = {}\nfunction grow()\n  local n = #keep\n  for i = 1, 100 do\n    keep[n + i] = { i }\n  end\nend";
    lua.load(source).set_name("@grow.lua").exec().unwrap();
    let grow: mlua::Function = lua.globals().get("grow").unwrap();
    loop {
        meter.set(100_000);
        let result = grow.call::<()>(());
        let (left, emergency, trace) = (meter.left(), meter.emergency_fuel(), meter.take_trace());
        meter.set(UNLIMITED);
        if result.is_ok() && left >= 0 {
            assert_eq!(emergency, 0);
            continue;
        }
        assert!(left < 0 && left + emergency >= 0, "left {left}, emergency {emergency}");
        assert_eq!(trace[0].source, "grow.lua");
        assert_eq!(trace[0].line, Some(5));
        break;
    }
}

/// Kinds of work: a name, what stands before, and what is done again and again.
const WORK: &[(&str, &str, &str)] = &[
    ("empty loop", "", ""),
    ("calls", "local function f() end", "f()"),
    ("gets", "local f = straight('local t = { a = 1 }', 'x = t.a')", "f()"),
    ("moves", "local f = straight('local a', 'x = a')", "f()"),
    ("loop of gets", "local f = load('local t = { a = 1 } return function() local x while true do ' .. ('x = t.a '):rep(60) .. 'end end')()", "f()"),
    ("long loop of gets", "local f = load('local t = { a = 1 } return function() local x for i = 1, 1e9 do ' .. ('x = t.a '):rep(600) .. 'end end')()", "f()"),
    ("conditions", "local f = straight('local a = 1', 'if a == 2 then x = 1 end')", "f()"),
    ("sparse gets", "local f = straight('local t = { [1000000] = 1 } local k = 1000000', 'x = t[k]')", "f()"),
    ("fresh tables", "local f = straight('', 'x = {}')", "f()"),
    ("length of powers", "local t = powers() local f = function() local x = #t end", "f()"),
    ("length in a row", "local f = straight('local t = powers()', 'x = #t')", "f()"),
    ("length of an array", "local t = {} for i = 1, 500000 do t[i] = i end for i = 500000, 300000, -1 do t[i] = nil end", "local x = rawlen(t) t[300000] = 1 x = rawlen(t) t[300000] = nil"),
    ("chain of names", "local names, chain = collide(10, 500) local s = '' for i = 1, 60 do s = s .. 'x = t.' .. names[i] .. ' ' end local f = load('local t = ... local x return function() ' .. s .. 'end')(chain)", "f()"),
    ("number from text", "local s, f = '1.' .. ('3'):rep(240) .. 'e-300', math.floor", "f(s)"),
    ("integer from text", "local s, f = '1.' .. ('0'):rep(240) .. 'e0', string.rep", "f('', s)"),
    ("number from text, max", "local s, f = '1.' .. ('3'):rep(245) .. 'e-300', math.max", "f(s, s, s, s, s, s, s, s)"),
    ("number from text, +", "local f = straight([[local s = '1.' .. ('3'):rep(240) .. 'e-300']], 'x = s + 1')", "f()"),
    ("number from text, hex", "local f = straight([[local s = '0x1' .. ('0'):rep(200) .. 'p-800']], 'x = s + 1')", "f()"),
    ("no number in long text", "local s = ('1'):rep(1000000) .. 'x'", "pcall(function() return s + 1 end)"),
    ("text from number", "local f = tostring", "f(-1.2345678901234567e-308)"),
    ("text from number, ..", "local f = straight('local a = -1.2345678901234567e-308', [[x = a .. '']])", "f()"),
    ("text from half", "local f = straight('local a = 0.5', [[x = a .. '']])", "f()"),
    ("text from integer", "local f = straight('local a = 123456789', [[x = a .. '']])", "f()"),
    ("concat of numbers", "local t = {} for i = 1, 1000 do t[i] = -1.2345678901234567e-308 end", "table.concat(t)"),
    ("format %q", "local s, f = ('\\1'):rep(200000), string.format", "f('%q', s)"),
    ("format %q of text", "local s, f = ('a'):rep(200000), string.format", "f('%q', s)"),
    ("format %99f", "local f = string.format", "f('%.99f', 1.7e308)"),
    ("format %99g", "local f = string.format", "f('%.99g', -1.2345678901234567e-308)"),
    ("format %a", "local f = string.format", "f('%.99a', 1.7e308)"),
    ("format %d", "local f = string.format", "f('%d', 17)"),
    ("fmod", "local f = straight('local a, b = 1.7e308, 5e-324', 'x = a % b')", "f()"),
    ("fmod near", "local f = straight('local a, b = 1e15, 1.7', 'x = a % b')", "f()"),
    ("math.fmod", "local f = math.fmod", "f(1.7e308, 5e-324)"),
    ("pow", "local f = straight('local a, b = 1.0000001, 1.5e7', 'x = a ^ b')", "f()"),
    ("sin", "local f = math.sin", "f(1e300)"),
    ("close", "local f = straight('', 'do local a <close> = nil end')", "f()"),
    ("close of tables", "local f = straight('local m = setmetatable({}, { __close = function() end })', 'do local a <close> = m end')", "f()"),
    ("nested names", "local names = {} for i = 1, 190 do names[i] = 'v' .. i end local all = table.concat(names, ',')
        local s = 'local ' .. all .. ' ' .. ('local function f() '):rep(40) .. 'local _={' .. all .. '} ' .. ('g=g '):rep(20000) .. (' end'):rep(40)", "assert(load(s))"),
    ("upper", "local s = ('a'):rep(1000000)", "s:upper()"),
    ("reverse", "local s = ('a'):rep(1000000)", "s:reverse()"),
    ("gsub", "local s = ('a'):rep(1000000)", "s:gsub('b', '')"),
    ("error, deep", "local function deep(n) if n == 0 then while true do pcall(error, 'x', 15000) end end return 1 + deep(n - 1) end", "deep(20000)"),
    ("select", "local function f(...) while true do select(150, ...) end end", "f(table.unpack({}, 1, 200))"),
    ("unpack", "local t = {} for i = 1, 60000 do t[i] = i end", "table.unpack(t)"),
    ("equal long texts", "local a, b = ('x'):rep(60), ('x'):rep(60)", "local c = a == b"),
    ("pack", "local f, s = string.pack, '!16' .. (' '):rep(200)", "f(s)"),
    ("methods", "local c = { m = function() end } c.__index = c local o = setmetatable({}, c)", "o:m()"),
    ("intern", "local s = ('k'):rep(39)", "local x = s .. 'x'"),
    ("sort", "local t = {} for i = 1, 1000 do t[i] = (i * 7919) % 1000 end", "table.sort(t, function(a, b) return a > b end)"),
    ("pairs", "local t = {} for i = 1, 1000 do t['k' .. i] = i end", "for k, v in pairs(t) do end"),
];

/// `cargo test -p kaos-lua --test cost -- --ignored --nocapture` prints what a unit of fuel takes.
#[repr(C)]
#[derive(Default)]
struct Timespec {
    seconds: i64,
    nanoseconds: i64,
}

unsafe extern "C" {
    fn clock_gettime(clock: i32, time: *mut Timespec) -> i32;
}

/// What this thread has used of the processor: other work on the machine does not show.
fn spent() -> u128 {
    const CLOCK_THREAD_CPUTIME_ID: i32 = 3;
    let mut time = Timespec::default();
    // SAFETY: `time` is where the kernel may write.
    unsafe { clock_gettime(CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    u128::try_from(time.seconds * 1_000_000_000 + time.nanoseconds).unwrap()
}

#[test]
#[ignore = "prints times"]
fn time_of_a_unit() {
    let only = std::env::var("ONLY").unwrap_or_default();
    for (name, before, work) in WORK.iter().filter(|(name, ..)| name.contains(&only)) {
        let mut best = f64::MAX;
        let mut said = String::new();
        for _ in 0..3 {
            let (lua, meter) = vm();
            lua.load(PRELUDE).exec().unwrap();
            lua.load(COLLIDE).exec().unwrap();
            let source = format!("{before}\nreturn function() while true do {work} end end");
            let function: mlua::Function = lua.load(source).set_name("@work.lua").eval().unwrap();
            let start = spent();
            meter.set(1_000_000);
            let result = function.call::<()>(());
            let took = spent() - start;
            let left = meter.left();
            meter.set(UNLIMITED);
            #[expect(clippy::cast_precision_loss, reason = "a figure for reading")]
            let unit = took as f64 / (1_000_000 - left) as f64;
            best = best.min(unit);
            said = result
                .err()
                .map_or_else(String::new, |e| e.to_string().lines().next().unwrap_or_default().to_owned());
        }
        println!("{name:24} {best:8.1} ns  {}", if said.contains("out of fuel") { "" } else { &said });
    }
    for piece in ["{ n }", "{}", "{ n = n }", "n .. 'x'", "function() return n end", "('x'):rep(100000) .. n"]
    {
        let (lua, meter) = vm();
        meter.set(UNLIMITED);
        let source = format!("keep = {{}} local n = 0 while n < 100000 do n = n + 1 keep[n] = {piece} end");
        let _ = lua.load(source).exec();
        let used = lua.used_memory();
        lua.set_memory_limit(used + 10_000).unwrap();
        meter.set(UNLIMITED);
        let start = spent();
        let result = lua.load("local t = {} for i = 1, 1000 do t[i] = i end").exec();
        let (took, fuel) = (spent() - start, meter.emergency_fuel());
        println!(
            "collection of {used} bytes of {piece}: {took} ns, {fuel} units, {} ns, {}",
            took / u128::try_from(fuel.max(1)).unwrap(),
            result.is_ok()
        );
    }
}

/// `straight(before, line)`: a function of 60 equal lines, without a loop. `powers()`: a table without an array
/// that has all powers of two.
const PRELUDE: &str = "function straight(before, line)
    return assert(load(before .. '\\nlocal x\\nreturn function()\\n' .. (line .. '\\n'):rep(60) .. 'end'))()
end
function powers()
    local s = ''
    for k = 0, 62 do s = s .. '[' .. (1 << k) .. ']=true,' end
    return load('return {' .. s .. '}')()
end";

/// Finds names that share a node with each other in a table of 2^bits nodes, by asking `next` where they are:
/// `collide(bits, want)` gives the names and a table that holds them.
const COLLIDE: &str = "function collide(bits, want)
    local t, first, out, i = load('return {' .. ('x=1,'):rep(1 << bits) .. '}')(), 'm0', {}, 0
    t.x = nil
    t[first] = true
    t[first] = nil
    while #out < want do
        i = i + 1
        local k = 'c' .. i
        t[k] = true
        local hit = not pcall(next, t, first)
        t[k] = nil
        if hit then out[#out + 1] = k t[first] = true t[first] = nil end
    end
    local chain = {}
    for _, k in ipairs(out) do chain[k] = 1 end
    return out, chain
end";

#[test]
fn a_walk_over_colliding_names_is_paid() {
    let (lua, meter) = vm();
    lua.load(COLLIDE).exec().unwrap();
    meter.set(10_000_000);
    lua.load("names, chain = collide(6, 40) plain = {} for i = 1, 40 do plain['p' .. i] = 1 end")
        .exec()
        .unwrap();
    meter.set(UNLIMITED);
    let cost = |source: &str| {
        let function: mlua::Function = lua.load(source).into_function().unwrap();
        meter.set(1_000_000);
        function.call::<()>(()).unwrap();
        let left = meter.left();
        meter.set(UNLIMITED);
        1_000_000 - left
    };
    let plain = cost("for _ = 1, 100 do for i = 1, 40 do local x = plain['p' .. i] end end");
    let named = cost("for _ = 1, 100 do for i = 1, 40 do local x = chain[names[i]] end end");
    let spared = cost("for _ = 1, 100 do for i = 1, 40 do local x = plain[names[i]] end end");
    // 4000 lookups that walk 20 names on average, at 1 for 4.
    assert!(named - spared > 4000 * 3, "{named} against {spared}, and {plain} with new names");
}

/// Work that takes longer than a step of a script: what stands before, what is done, and the least it costs.
const FLOORS: &[(&str, &str, i64)] = &[
    ("local f = straight('local t = { a = 1 }', 'x = t.a')", "f()", 10),
    ("local f = straight('', 'do local a <close> = nil end')", "f()", 60),
    ("local t = powers()", "local x = #t", 60),
    ("local s, f = '1.' .. ('3'):rep(240) .. 'e-300', math.floor", "f(s)", 30),
    ("local s = '1.' .. ('3'):rep(240) .. 'e-300'", "local x = s + 1", 30),
    ("local s = ('1'):rep(1000000)", "pcall(function() return s + 1 end)", 3000),
    ("", "tostring(-1.2345678901234567e-308)", 30),
    ("local a = 1e-300", "local x = a .. ''", 30),
    ("local s = ('\\1'):rep(200000)", "local x = ('%q'):format(s)", 1_200_000),
    ("local s = ('a'):rep(200000)", "local x = ('%q'):format(s)", 25_000),
    ("", "('%.99f'):format(1.7e308)", 400),
    ("local s = ('a'):rep(1000000)", "s:upper()", 30_000),
    (
        "local names = {} for i = 1, 190 do names[i] = 'v' .. i end local all = table.concat(names, ',')
        local s = 'local ' .. all .. ' ' .. ('local function f() '):rep(40) .. 'local _={' .. all .. '} '
            .. ('g=g '):rep(1000) .. (' end'):rep(40)",
        "load(s)",
        // 2000 names, each looked for in 40 functions that hold 190 others.
        2000 * 40 * 6,
    ),
];

#[test]
fn work_costs_at_least_what_it_takes() {
    for (before, work, least) in FLOORS {
        let (lua, meter) = vm();
        lua.load(PRELUDE).exec().unwrap();
        let function: mlua::Function =
            lua.load(format!("{before}\nreturn function() {work} end")).eval().unwrap();
        meter.set(100_000_000);
        function.call::<()>(()).unwrap();
        let spent = 100_000_000 - meter.left();
        meter.set(UNLIMITED);
        assert!(spent >= *least, "{work} cost {spent}, not {least}; after {before}");
    }
}
