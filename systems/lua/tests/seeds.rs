//! One seed, one order: tables, random numbers, sorting and text agree between VMs with the same seed.

#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and reports by printing; one pushes a C string"
)]

use kaos_lua::new_state;
use mlua::{Lua, StdLib};

fn vm(seed: u64) -> Lua {
    let libs = StdLib::TABLE | StdLib::STRING | StdLib::MATH | StdLib::COROUTINE | StdLib::UTF8;
    new_state(seed, libs).unwrap()
}

fn eval(lua: &Lua, source: &str) -> String {
    lua.load(source).eval().unwrap()
}

const ORDERS: [(&str, &str); 7] = [
    ("short strings", "for i = 1, 200 do t['k' .. i] = i end"),
    ("long strings", "for i = 1, 50 do t[('x'):rep(60) .. i] = i end"),
    ("integers", "for i = 1, 200 do t[i * 1000003] = i end"),
    ("floats", "for i = 1, 200 do t[i + 0.25] = i end"),
    ("tables", "for i = 1, 200 do t[{}] = i end"),
    (
        "functions",
        "for i = 1, 200 do t[function() return i end] = i end t[print], t[pairs], t[next] = 1, 2, 3",
    ),
    ("threads", "for i = 1, 50 do t[coroutine.create(print)] = i end"),
];

fn order(lua: &Lua, fill: &str) -> String {
    eval(
        lua,
        &format!(
            "local t, out = {{}}, {{}} {fill} for _, v in pairs(t) do out[#out + 1] = v end return table.concat(out, ' ')"
        ),
    )
}

#[test]
fn vms_with_one_seed_iterate_alike() {
    for (what, fill) in ORDERS {
        // Memory is allocated in between, so that no address repeats by luck.
        let (a, _filler, b) = (vm(42), vec![0_u8; 4096], vm(42));
        assert_eq!(order(&a, fill), order(&b, fill), "{what}");
    }
}

#[test]
fn another_seed_gives_another_order() {
    for (what, fill) in ORDERS {
        assert_ne!(order(&vm(1), fill), order(&vm(2), fill), "{what}");
    }
}

#[test]
fn a_seed_is_used_once() {
    kaos_lua::set_next_seed(9);
    let first = Lua::new();
    let second = Lua::new();
    let fill = ORDERS[0].1;
    assert_eq!(order(&first, fill), order(&vm(9), fill));
    assert_eq!(order(&second, fill), order(&vm(0), fill));
}

#[test]
fn random_numbers_follow_the_seed() {
    let draw = "local r = {} for i = 1, 20 do r[i] = math.random(1000000) end return table.concat(r, ' ')";
    assert_eq!(eval(&vm(5), draw), eval(&vm(5), draw));
    assert_ne!(eval(&vm(5), draw), eval(&vm(6), draw));
    let reseed = format!("math.randomseed() {draw}");
    assert_eq!(eval(&vm(5), &reseed), eval(&vm(5), &reseed));
    assert_ne!(eval(&vm(5), &reseed), eval(&vm(5), draw));
}

#[test]
fn lopsided_sorts_agree() {
    // Organ pipes with equal keys: stock Lua asks the clock for a pivot, and the order of equals shows it.
    let sort = "local t = {}
        for i = 1, 2000 do local k = i <= 1000 and i // 3 or (2000 - i) // 3; t[i] = { k = k, n = i } end
        table.sort(t, function(a, b) return a.k < b.k end)
        local out = {} for i = 1, #t do out[i] = t[i].n end return table.concat(out, ' ')";
    let first = eval(&vm(1), sort);
    for seed in [1, 1, 2, 3] {
        assert_eq!(eval(&vm(seed), sort), first);
    }
}

#[test]
fn text_shows_numbers_of_creation() {
    let make = "local a, b = {}, {} local f = function() end
        return tostring(a) .. ' ' .. tostring(b) .. ' ' .. tostring(f) .. ' ' .. string.format('%p', a)
            .. ' ' .. tostring(print) .. ' ' .. tostring(coroutine.create(f)) .. ' ' .. string.format('%p', 'text')";
    let text = eval(&vm(1), make);
    assert_eq!(text, eval(&vm(1), make));
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    let shape = shape.replace("00", "0").replace("00", "0").replace("00", "0");
    assert!(shape.starts_with("table: #0 table: #0 function: #0 0x"), "{text}");
    assert!(shape.ends_with("(null)") && shape.contains("thread: #0"), "{text}");
}

#[test]
fn strings_are_ordered_by_bytes() {
    let lua = vm(1);
    for (a, b) in [
        ("\"a\"", "\"b\""),
        ("\"a\\0a\"", "\"a\\0b\""),
        ("\"\"", "\"\\0\""),
        ("\"Z\"", "\"a\""),
        ("\"a\"", "\"\\xff\""),
    ] {
        assert!(
            lua.load(format!("return {a} < {b} and {a} <= {b} and not ({b} < {a})")).eval::<bool>().unwrap()
        );
    }
}

#[test]
fn numbers_in_text_are_short() {
    let lua = vm(1);
    let at = |n: usize| format!("return tonumber(('0'):rep({n}) .. '7') == 7 and '1' + 0 == 1");
    assert!(lua.load(at(255)).eval::<bool>().unwrap());
    assert!(!lua.load(at(256)).eval::<bool>().unwrap());
}

#[test]
fn long_c_strings_cost_the_same_wherever_they_lie() {
    // The name of a chunk is a C string: the text itself, where the allocator put it.
    let source = "local texts = {}
        for i = 1, 60 do texts[i] = ('return %d -- a text that is longer than forty bytes %d'):format(i, i) end
        for _ = 1, 3 do for i = 1, 60 do load(texts[i]) end end";
    let cost = |again: bool| {
        let lua = vm(1);
        lua.gc_stop();
        let meter = kaos_lua::Meter::of(&lua).unwrap();
        // One C string at one address, or two equal ones at two: a cache by address would tell them apart.
        let (one, two) = ("x".repeat(50) + "\0", "x".repeat(50) + "\0");
        let before = lua.used_memory();
        meter.set(1_000_000);
        for text in [&one, if again { &one } else { &two }] {
            // SAFETY: the text ends with a zero; the stack is balanced.
            unsafe {
                lua.exec_raw::<()>((), |state| {
                    mlua_sys::lua_pushstring(state, text.as_ptr().cast());
                    mlua_sys::lua_pop(state, 1);
                })
                .unwrap();
            }
        }
        lua.load(source).exec().unwrap();
        let left = meter.left();
        meter.set(kaos_lua::UNLIMITED);
        (left, lua.used_memory() - before)
    };
    assert_eq!(cost(true), cost(false));
}
