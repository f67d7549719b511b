//! Values and JSON between scripts and host.

use kaos_script::Value;

use super::{Desk, Sent, eval, eval_with, one};

#[test]
fn values_go_round() {
    let value = Value::map([
        ("list", Value::List(vec![Value::Int(1), Value::text("zwei"), Value::Float(3.5), Value::Bool(true)])),
        ("raw", Value::text([0, 255, 10])),
        ("empty", Value::map::<String>([])),
        ("deep", Value::map([("a", Value::List(vec![Value::map([("b", Value::Int(i64::MIN))])]))])),
    ]);
    let back = eval_with("return ...", &mut Desk::default(), std::slice::from_ref(&value)).unwrap();
    assert_eq!(back, [value]);
}

#[test]
fn tables_are_lists_or_maps() {
    let int = Value::Int;
    assert_eq!(one("return { 1, 2 }"), Value::List(vec![int(1), int(2)]));
    assert_eq!(one("return { [1] = 1, [3] = 3 }"), Value::map([("1", int(1)), ("3", int(3))]));
    assert_eq!(one("return { 1, x = 2 }"), Value::map([("1", int(1)), ("x", int(2))]));
    assert_eq!(one("return {}"), Value::map::<String>([]));
    assert_eq!(one("return { [2^53] = 1 }"), Value::map([("9007199254740992", int(1))]));
}

#[test]
fn json_text_is_sorted_and_exact() {
    for (lua, json) in [
        ("{ b = 1, a = { 1, 2.5, 'x', true, false } }", r#"{"a":[1,2.5,"x",true,false],"b":1}"#),
        ("{}", "{}"),
        ("kaos.json_array()", "[]"),
        ("kaos.json_array({ 1 })", "[1]"),
        ("kaos.json_decode('[]')", "[]"),
        ("kaos.json_decode('{\"a\":[],\"b\":[[],{}]}')", r#"{"a":[],"b":[[],{}]}"#),
        ("kaos.json_decode('{\"a\":[1,{}]}')", r#"{"a":[1,{}]}"#),
        ("{ [10] = 1, [2] = 2, z = 3 }", r#"{"2":2,"10":1,"z":3}"#),
        ("'a\"\\n\\u{e9}\\0'", r#""a\"\n é\u0000""#),
        ("1 / 3", "0.3333333333333333"),
        ("500.0", "500.0"),
        ("math.mininteger", "-9223372036854775808"),
        ("nil", "null"),
    ] {
        let json = json.replace("\\n é", "\\né");
        assert_eq!(one(&format!("return kaos.json_encode({lua})")), Value::text(&json), "{lua}");
    }
}

#[test]
fn what_json_cannot_hold_is_named() {
    for (lua, sentence) in [
        ("{ a = { print } }", "a function has no JSON at a.1"),
        ("0 / 0", "NaN has no JSON"),
        ("{ x = math.huge }", "inf has no JSON at x"),
        ("'\\xff'", "a string that is not UTF-8"),
        ("{ ['\\xff'] = 1 }", "a key that is not UTF-8"),
        ("{ [true] = 1 }", "a boolean as a key has no JSON"),
        ("{ [1] = 1, ['1'] = 2 }", "the keys 1 and \"1\" in one table"),
        ("coroutine.create(print)", "a coroutine has no JSON"),
        ("('x'):rep(2000000)", "too much text"),
    ] {
        let error = eval(&format!("return kaos.json_encode({lua})")).unwrap_err();
        assert_eq!(error.message, format!("kaos.json_encode: {sentence}"), "{lua}");
    }
    let cycle = eval("local t = {} t.me = t return kaos.json_encode(t)").unwrap_err();
    assert!(cycle.message.starts_with("kaos.json_encode: tables too deep, or a cycle at me.me"), "{cycle}");
    let many = eval("local t = {} for i = 1, 30000 do t[i] = i end return kaos.json_encode(t)").unwrap_err();
    assert_eq!(many.message, "kaos.json_encode: too many values");
}

#[test]
fn json_is_read() {
    let value = one(r#"return kaos.json_decode('{"a":[1,2.5,null,"x"],"big":18446744073709551615}')"#);
    let list = [Value::Int(1), Value::Float(2.5), Value::text("x")];
    let expected = [("1", &list[0]), ("2", &list[1]), ("4", &list[2])].map(|(k, v)| (k, v.clone()));
    assert_eq!(value.get("a"), Some(&Value::map(expected)));
    assert_eq!(value.get("big"), Some(&Value::Float(u64::MAX as f64)));
    let error = eval("return kaos.json_decode('{')").unwrap_err();
    assert_eq!(error.message, "kaos.json_decode: EOF while parsing an object at line 1 column 1");
    assert_eq!(eval("kaos.json_decode(nil)").unwrap_err().message, "kaos.json_decode: nil is not a string");
    let deep = eval("return kaos.json_decode(('['):rep(1000))").unwrap_err();
    assert!(deep.message.contains("recursion limit"), "{deep}");
}

#[test]
fn broadcasts_are_read_as_they_are_meant() {
    let mut desk = Desk::default();
    let text = "local p = { session_id = '00000000000000ab' }
        kaos.broadcast('r', nil, 'all')
        kaos.broadcast('r', p, 'two', { p, '00000000000000cd' }, { op = 7, reliable = false })
        kaos.broadcast('r', '00000000000000ab', 'none', {}, { op = 255, reliable = true })
        kaos.broadcast('r', nil, '\\0\\xff', nil, {})";
    eval_with(text, &mut desk, &[]).unwrap();
    let sent = |sender, data: &[u8], to: Option<&[u64]>, op, reliable| Sent {
        room: "r".to_owned(),
        sender,
        data: data.to_vec(),
        to: to.map(<[u64]>::to_vec),
        op,
        reliable,
    };
    let expected = [
        sent(None, b"all", None, 0, true),
        sent(Some(0xab), b"two", Some(&[0xab, 0xcd]), 7, false),
        sent(Some(0xab), b"none", Some(&[]), 255, true),
        sent(None, b"\0\xff", None, 0, true),
    ];
    assert_eq!(desk.broadcasts, expected);
}

#[test]
fn a_broadcast_that_no_transport_carries_is_an_error_at_its_line() {
    let refused = |data: &str, options: &str| {
        let text = format!("\nkaos.broadcast('r', nil, ('x'):rep({data}), nil, {options})");
        eval_with(&text, &mut Desk::default(), &[]).err().map(|error| error.message)
    };
    assert_eq!(refused("1112", "{ reliable = false }"), None);
    assert_eq!(refused("65530", "nil"), None);
    let unreliable = refused("1113", "{ reliable = false }").unwrap();
    let sentence =
        "kaos.broadcast: data has 1113 bytes; it may have 1112 at most when it is not sent reliably";
    assert_eq!(unreliable, sentence);
    let reliable = refused("65531", "nil").unwrap();
    assert!(reliable.ends_with("data has 65531 bytes; it may have 65530 at most"), "{reliable}");
}

#[test]
fn broadcasts_refuse_what_is_not_meant() {
    for (arguments, sentence) in [
        ("", "room_id is no value, not a room's id"),
        ("'r'", "data is no value, not a string; kaos.json_encode makes one"),
        ("'r', nil, {}", "data is a table, not a string; kaos.json_encode makes one"),
        ("'r', 'ada', 'x'", "sender is neither a presence nor a session id nor nil"),
        ("'r', nil, 'x', 'ada'", "presences is a string, not a list or nil"),
        ("'r', nil, 'x', { 'ada' }", "presences[1] is neither a presence nor a session id"),
        ("'r', nil, 'x', nil, { op = 256 }", "op is not an integer from 0 to 255"),
        ("'r', nil, 'x', nil, { op = 1.5 }", "op is not an integer from 0 to 255"),
        ("'r', nil, 'x', nil, 3", "options is a number, not a table or nil"),
    ] {
        let error = eval(&format!("kaos.broadcast({arguments})")).unwrap_err();
        assert_eq!(error.message, format!("kaos.broadcast: {sentence}"), "{arguments}");
    }
}

#[test]
fn empty_arrays_stay_arrays_wherever_they_are() {
    let text = r#"{"a":[],"b":{},"c":[[],{}]}"#;
    let round = eval(&format!("return kaos.json_encode(kaos.json_decode('{text}'))")).unwrap();
    assert_eq!(round, [Value::text(text)]);
    // And on the way to the host and back.
    let mut desk = Desk { answer: Some(Ok(Value::List(vec![]))), ..Desk::default() };
    let back =
        eval_with("return kaos.json_encode(kaos.room_label({ kaos.json_array(), {} }))", &mut desk, &[]);
    assert_eq!(back.unwrap(), [Value::text("[]")]);
    let given = Value::List(vec![Value::List(vec![]), Value::map([] as [(&str, Value); 0])]);
    assert_eq!(desk.calls, [(1, vec![given])]);
}

#[test]
fn json_of_too_many_values_is_refused() {
    let error = eval("return kaos.json_decode('[' .. ('[],'):rep(20000) .. '[]]')").unwrap_err();
    assert!(error.message.starts_with("kaos.json_decode: too many values at line 1 column"), "{error}");
    assert!(eval("return #kaos.json_decode('[' .. ('1,'):rep(9000) .. '1]')").is_ok());
}
