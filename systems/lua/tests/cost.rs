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
const WORK: &[(&str, &str, &str)] = &[("empty loop", "", ""), ("calls", "local function f() end", "f()")];

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

/// `straight(before, line)`: a function of 60 equal lines, without a loop.
const PRELUDE: &str = "function straight(before, line)
    return assert(load(before .. '\\nlocal x\\nreturn function()\\n' .. (line .. '\\n'):rep(60) .. 'end'))()
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
