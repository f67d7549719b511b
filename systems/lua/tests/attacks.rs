//! Scripts that try to run for ever: each ends within its fuel, at the same point in every process.

#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and reports by printing; the host's charge is a C function"
)]

use kaos_lua::{Meter, UNLIMITED, new_state};
use mlua::chunk::ChunkMode;
use mlua::{Error, Lua, StdLib, Value};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

const BUDGET: i64 = 5_000_000;
const MEMORY: usize = 16 << 20;

/// What one check may take beyond the budget: the collection of a full heap, twice over.
const OVERSHOOT: i64 = 2 * (MEMORY as i64 >> 4);

struct Attack {
    name: String,
    source: String,
    /// The rest of the first line: `fuel`, `memory` or `error <part of the message>`.
    ends: String,
}

struct End {
    left: i64,
    result: Result<(), Error>,
}

fn attacks() -> Vec<Attack> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/attacks");
    let mut attacks: Vec<Attack> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let source = std::fs::read_to_string(&path).unwrap();
            let first = source.lines().next().unwrap_or_default();
            let ends = first.strip_prefix("-- ends: ").expect("the first line says how it ends").to_owned();
            Attack { name: path.file_stem().unwrap().to_string_lossy().into_owned(), ends, source }
        })
        .collect();
    attacks.sort_by(|a, b| a.name.cmp(&b.name));
    attacks
}

fn vm(seed: u64) -> (Lua, Meter) {
    let libs = StdLib::TABLE | StdLib::STRING | StdLib::MATH | StdLib::COROUTINE | StdLib::UTF8;
    let lua = new_state(seed, libs).unwrap();
    lua.gc_stop();
    lua.set_memory_limit(MEMORY).unwrap();
    let meter = Meter::of(&lua).unwrap();
    (lua, meter)
}

fn run(lua: &Lua, meter: &Meter, attack: &Attack, budget: i64) -> End {
    meter.set(budget);
    let chunk = lua.load(&attack.source).set_name(format!("@{}.lua", attack.name)).set_mode(ChunkMode::Text);
    let result = chunk.exec();
    let left = meter.left();
    meter.set(UNLIMITED);
    End { left, result }
}

#[test]
fn every_attack_ends_within_its_fuel() {
    let mut wrong = String::new();
    for attack in attacks() {
        let (lua, meter) = vm(7);
        let end = run(&lua, &meter, &attack, BUDGET);
        let said = end.result.as_ref().map_or_else(ToString::to_string, |()| "returned".to_owned());
        let as_told = match attack.ends.split_once(' ').unwrap_or((attack.ends.as_str(), "")) {
            ("fuel", _) => end.left < 0,
            ("memory", _) => matches!(end.result, Err(Error::MemoryError(_))),
            ("error", part) => end.left >= 0 && end.result.is_err() && said.contains(part),
            _ => false,
        };
        if !as_told || end.left < -OVERSHOOT {
            writeln!(wrong, "{}: {} expected; left {}, {said}", attack.name, attack.ends, end.left).unwrap();
        }
        // The VM is whole: it runs on with new fuel. (After a lack of memory its owner ends it.)
        if attack.ends == "fuel" && attack.name != "memory_full" {
            meter.set(1000);
            let sum: mlua::Result<i64> =
                lua.load("local s = 0 for i = 1, 10 do s = s + i end return s").eval();
            meter.set(UNLIMITED);
            if !matches!(sum, Ok(55)) {
                writeln!(wrong, "{}: the VM is broken afterwards: {sum:?}", attack.name).unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn fuel_cuts_at_the_same_point_in_every_process() {
    let here = report();
    for process in 0..2 {
        let out = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "report_of_this_process", "--nocapture", "--include-ignored"])
            .env("KAOS_LUA_REPORT", "1")
            .output()
            .unwrap();
        let out = String::from_utf8_lossy(&out.stdout).into_owned();
        let there: String = out
            .lines()
            .filter_map(|l| l.split_once("CUT "))
            .fold(String::new(), |all, (_, l)| all + l + "\n");
        assert_eq!(there, here, "process {process}");
    }
}

#[test]
#[ignore = "prints for fuel_cuts_at_the_same_point_in_every_process"]
fn report_of_this_process() {
    if std::env::var_os("KAOS_LUA_REPORT").is_some() {
        for line in report().lines() {
            println!("\nCUT {line}");
        }
    }
}

/// One line for each script: what was left and what it had counted when it was cut.
fn report() -> String {
    let mut report = String::new();
    let (lua, meter) = vm(7);
    let counting = Attack {
        name: "counting".to_owned(),
        ends: "fuel".to_owned(),
        source: "n, log = 0, {}
            local seen = {}
            while true do
                n = n + 1
                local t = { n }
                seen[t] = n; seen[tostring(n)] = t; seen[n + 0.5] = true
                if n % 100 == 0 then for k in pairs(seen) do log[#log + 1] = tostring(k) end seen = {} end
                pcall(string.find, ('a'):rep(n % 20), ('a-'):rep(6) .. 'b')
            end"
        .to_owned(),
    };
    for budget in [10_000, 100_000, 1_000_000] {
        let end = run(&lua, &meter, &counting, budget);
        let n: Value = lua.globals().get("n").unwrap();
        let log: String = lua.load("return table.concat(log, ' ')").eval().unwrap();
        let hash = log
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
        writeln!(report, "counting {budget} left {} n {n:?} log {hash:016x}", end.left).unwrap();
    }
    static PLACES: [u8; 16] = [0; 16];
    let places = lua.create_table().unwrap();
    places.set(Value::NULL, 99).unwrap();
    for (n, place) in PLACES.iter().enumerate() {
        let place = std::ptr::from_ref(place).cast_mut().cast();
        places.set(mlua::LightUserData(place), n).unwrap();
    }
    let order: Vec<i64> = places.pairs::<Value, i64>().map(|pair| pair.unwrap().1).collect();
    writeln!(report, "light userdata {order:?}").unwrap();
    for attack in attacks() {
        let (lua, meter) = vm(7);
        let end = run(&lua, &meter, &attack, BUDGET / 10);
        let memory = lua.used_memory();
        writeln!(report, "{} left {} memory {memory} ok {}", attack.name, end.left, end.result.is_ok())
            .unwrap();
    }
    report
}

#[test]
fn the_host_learns_where_fuel_ran_out() {
    let (lua, meter) = vm(1);
    let source =
        "local function inner()\n  while true do end\nend\nfunction outer() inner() end\nprint(pcall(outer))";
    meter.set(1000);
    let error = lua.load(source).set_name("@scripts/a.lua").exec().unwrap_err();
    let trace = meter.take_trace();
    meter.set(UNLIMITED);
    assert!(error.to_string().contains("scripts/a.lua:5: out of fuel"), "{error}");
    let shown: Vec<String> = trace
        .iter()
        .map(|f| format!("{}:{} {}", f.source, f.line.unwrap_or(0), f.function.as_deref().unwrap_or("?")))
        .collect();
    let expected =
        ["scripts/a.lua:2 inner", "scripts/a.lua:4 ?", "[C]:0 pcall", "scripts/a.lua:5 main chunk"];
    assert_eq!(shown[..4], expected, "{shown:?}");
}

#[test]
fn exhaustion_is_told_even_when_the_script_returns() {
    let (lua, meter) = vm(1);
    meter.set(1000);
    // Nothing is left to do after the pcall, so nothing is left to fail.
    let result = lua.load("return (pcall(function() while true do end end))").eval::<bool>();
    let left = meter.left();
    meter.set(UNLIMITED);
    assert!(left < 0);
    assert!(matches!(result, Ok(false)), "{result:?}");
}

#[test]
fn host_work_can_be_charged() {
    let (lua, meter) = vm(1);
    meter.set(1000);
    // SAFETY: the state lives as long as `lua`.
    unsafe { kaos_lua::ffi::kaoslua_owe(meter.main_state(), u64::MAX) };
    assert!(meter.left() < 0);
    assert!(lua.load("return 1").eval::<i64>().is_err());
    meter.set(UNLIMITED);
    assert_eq!(lua.load("return 1").eval::<i64>().unwrap(), 1);
}

#[test]
fn places_name_the_whole_path() {
    let path = "scripts/a_long_directory_name/another_long_directory_name/yet_another_directory_name/a.lua";
    let name = format!("@{path}");
    let (lua, meter) = vm(1);
    for (source, says) in [
        ("local t\nreturn t.x", "2: attempt to index a nil value"),
        ("error('raised')", "1: raised"),
        ("return +", "1: unexpected symbol"),
    ] {
        let error = lua.load(source).set_name(&name).exec().unwrap_err().to_string();
        assert!(error.contains(&format!(" {path}:{says}")), "{error}");
    }
    meter.set(1000);
    let error = lua.load("while true do end").set_name(&name).exec().unwrap_err().to_string();
    let trace = meter.take_trace();
    meter.set(UNLIMITED);
    assert!(error.contains(&format!(" {path}:1: out of fuel")), "{error}");
    assert_eq!(trace[0].source, path);
    // A name that is no path of this length is shown as Lua shows it.
    let error = lua.load("x(").set_name(format!("@{}", "y".repeat(300))).exec().unwrap_err().to_string();
    assert!(error.contains(" ...yyy") && error.len() < 200, "{error}");
}
