//! Calc, a language as small as one can be: words on a stack, a function a paragraph.
//!
//! ```text
//! rpc total                        a header: what the lines below it are
//!   a1 parse "gold" get 1 +        literals are JSON without spaces; a0 is the first argument
//! ```
//!
//! What is on the stack at the end are the results.

use std::collections::BTreeMap;

use kaos_kernel::fault::FaultKind;
use kaos_script::runtime::{Called, Program};
use kaos_script::{Bounds, ErrorKind, FunctionName, Host, RefusalCode, ScriptError, ScriptRefusal, Value};

/// A function: the line of its header, and its words, each with its line.
pub(crate) type Code = (u32, Vec<(u32, String)>);

/// A file: its functions by header, such as `rpc total` or `match_loop`.
#[derive(Clone)]
pub(crate) struct File {
    pub(crate) shown: String,
    pub(crate) functions: BTreeMap<String, Code>,
}

/// Reads a file.
pub(crate) fn file(program: &Program, path: &str) -> Result<File, ScriptError> {
    let shown = program.sources.shown(path);
    let text = program.sources.get(path).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let (mut functions, mut open) = (BTreeMap::<String, Code>::new(), String::new());
    for (line, number) in text.unwrap_or_default().lines().zip(1..) {
        let words = line.split_whitespace().map(|word| (number, word.to_owned()));
        if line.starts_with(' ') {
            let missing =
                || ScriptError { line: number, ..ScriptError::contract(&shown, "a line without a header") };
            functions.get_mut(&open).ok_or_else(missing)?.1.extend(words);
        } else if !line.is_empty() {
            open = line.to_owned();
            functions.insert(open.clone(), (number, Vec::new()));
        }
    }
    Ok(File { shown, functions })
}

/// One call of a function.
struct Run<'a> {
    file: &'a File,
    known: &'a [FunctionName],
    host: &'a mut dyn Host,
    arguments: &'a [Value],
    stack: Vec<Value>,
    fuel: i64,
}

/// Calls a function; `None`: the file has none of that name.
pub(crate) fn run(
    file: &File,
    known: &[FunctionName],
    host: &mut dyn Host,
    (name, arguments): (&str, &[Value]),
    fuel: i64,
) -> Option<Result<Called<Vec<Value>>, ScriptError>> {
    let (_, words) = file.functions.get(name)?;
    let mut run = Run { file, known, host, arguments, stack: Vec::new(), fuel };
    for (line, word) in words {
        run.fuel -= 1;
        let done =
            if run.fuel < 0 { Err(ScriptError::new(ErrorKind::Fuel, "out of fuel")) } else { run.word(word) };
        if let Err(error) = done {
            let (file, traceback) =
                (run.file.shown.clone(), vec![format!("{}:{line} in {name}", file.shown)]);
            return Some(Err(ScriptError { file, line: *line, traceback, fuel: fuel - run.fuel, ..error }));
        }
    }
    Some(Ok(Called { value: run.stack, fuel: fuel - run.fuel }))
}

impl Run<'_> {
    fn pop(&mut self) -> Result<Value, ScriptError> {
        self.stack.pop().ok_or_else(|| ScriptError::new(ErrorKind::Error, "the stack is empty"))
    }

    fn text(&mut self) -> Result<String, ScriptError> {
        let value = self.pop()?;
        let text = value.as_str().map(str::to_owned);
        text.ok_or_else(|| ScriptError::new(ErrorKind::Error, format!("{value:?} is no text")))
    }

    fn word(&mut self, word: &str) -> Result<(), ScriptError> {
        let error = |message: String| ScriptError::new(ErrorKind::Error, message);
        match word {
            "get" => {
                let (key, map) = (self.text()?, self.pop()?);
                self.stack.push(map.get(&key).cloned().unwrap_or_default());
            }
            "set" => {
                let (value, key, map) = (self.pop()?, self.text()?, self.pop()?);
                let Value::Map(mut map) = map else { return Err(error(format!("{map:?} is no object"))) };
                map.insert(key, value);
                self.stack.push(Value::Map(map));
            }
            "push" => {
                let (value, list) = (self.pop()?, self.pop()?);
                let Value::List(mut list) = list else { return Err(error(format!("{list:?} is no list"))) };
                list.push(value);
                self.stack.push(Value::List(list));
            }
            "+" => {
                let (b, a) = (self.pop()?, self.pop()?);
                let sum = a.as_int().zip(b.as_int()).map(|(a, b)| a.wrapping_add(b));
                self.stack.push(Value::Int(sum.ok_or_else(|| error(format!("{a:?} + {b:?} is no number")))?));
            }
            "parse" => {
                let text = self.text()?;
                let parsed = Value::parse_json(text.as_bytes(), Bounds::CALL);
                self.stack.push(parsed.map_err(|wrong| error(wrong.to_string()))?);
            }
            // code message data: a word of the fault table, or a number.
            "refuse" => {
                let (data, message, code) = (self.pop()?, self.text()?, self.pop()?);
                let code = match &code {
                    Value::Int(number) => RefusalCode::Number(*number),
                    word => RefusalCode::Kind(
                        FaultKind::of_request(word.as_str().unwrap_or_default()).map_err(error)?,
                    ),
                };
                let refusal = ScriptRefusal { code, message: message.clone(), retry_ms: 0, data: Some(data) };
                return Err(ScriptError { refusal: Some(Box::new(refusal)), ..error(message) });
            }
            "fail" => return Err(error(self.text()?)),
            _ => return self.call_or_literal(word),
        }
        Ok(())
    }

    /// `kaos.uuid/0`, an argument, or JSON.
    fn call_or_literal(&mut self, word: &str) -> Result<(), ScriptError> {
        let unknown = || ScriptError::new(ErrorKind::Error, format!("{word} is no word"));
        if let Some(number) = word.strip_prefix('a').and_then(|number| number.parse::<usize>().ok()) {
            self.stack.push(self.arguments.get(number).cloned().unwrap_or_default());
        } else if let Some((name, count)) =
            word.rsplit_once('/').filter(|_| !word.starts_with(['"', '{', '[']))
        {
            let number = self.known.iter().position(|known| known.to_string() == name).ok_or_else(unknown)?;
            let from =
                self.stack.len().checked_sub(count.parse().map_err(|_| unknown())?).ok_or_else(unknown)?;
            let arguments = self.stack.split_off(from);
            let results = self.host.call(number, arguments, &mut self.fuel).map_err(|raised| {
                let refusal = raised.fault.map(|fault| Box::new(fault.into()));
                ScriptError {
                    refusal,
                    ..ScriptError::new(ErrorKind::Error, format!("{name}: {}", raised.text))
                }
            })?;
            self.stack.extend(results);
        } else {
            let literal = Value::parse_json(word.as_bytes(), Bounds::CALL).map_err(|_| unknown())?;
            self.stack.push(literal);
        }
        Ok(())
    }
}
