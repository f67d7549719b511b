//! `kaos.*` from the operation table: one function a row, positional arguments, the same words as on every door.

use std::collections::BTreeMap;
use std::sync::Arc;

use kaos_kernel::op::{CheckContext, OpRow, OpTable, Payload};
use kaos_kernel::prelude::*;

use crate::library::Library;
use crate::value::Value;

/// One function of `kaos.` that the host answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name: `room_create`.
    pub name: String,
    /// What it does.
    pub kind: FunctionKind,
}

/// What a function does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FunctionKind {
    /// Draws a version 4 UUID: `kaos.uuid`.
    Uuid,
    /// Calls an operation.
    Call {
        /// Its dotted name.
        op: String,
        /// How a script may call it.
        script: ScriptUse,
        /// The request's fields by position.
        args: &'static [&'static str],
        /// The field that gets an id drawn beforehand.
        draws: Option<&'static str>,
    },
}

/// Every function, in the order in which machines number them.
pub(crate) fn functions(ops: &OpTable) -> Arc<[Function]> {
    let uuid = Function { name: "uuid".to_owned(), kind: FunctionKind::Uuid };
    let calls = ops.rows().iter().filter(|row| row.op.script != ScriptUse::Never).map(|row| Function {
        name: row.op.script_name(),
        kind: FunctionKind::Call {
            op: row.op.name.clone(),
            script: row.op.script,
            args: row.op.args,
            draws: row.op.draws,
        },
    });
    std::iter::once(uuid).chain(calls).collect()
}

/// `kaos.uuid()` takes nothing.
///
/// # Errors
/// A sentence: something was given.
pub(crate) fn no_args(given: &[Value]) -> Result<(), String> {
    if given.is_empty() { Ok(()) } else { Err("takes no arguments".to_owned()) }
}

/// Puts arguments by position into a request. An operation without named arguments takes its request whole.
///
/// # Errors
/// A sentence: there are more arguments than the operation has.
pub(crate) fn bind_args(args: &[&str], given: Vec<Value>) -> Result<Value, String> {
    let most = args.len().max(1);
    if given.len() > most {
        return Err(format!("takes {most} arguments at most, {} were given", given.len()));
    }
    if args.is_empty() {
        return Ok(given.into_iter().next().unwrap_or_default());
    }
    let fields: BTreeMap<String, Value> = args
        .iter()
        .zip(given)
        .filter(|(_, value)| *value != Value::Nil)
        .map(|(name, value)| ((*name).to_owned(), value))
        .collect();
    Ok(Value::Map(fields))
}

/// A request as its operation reads it. What can be known when a script calls is refused then, at the script's
/// line: fields that are none, values of the wrong kind, a match that is not there.
///
/// # Errors
/// A sentence that names the field.
pub(crate) fn parse_request(
    library: &Library,
    row: &OpRow,
    request: Value,
) -> Result<Box<dyn Payload>, String> {
    // Who is told knows the function's name.
    let said = |fault: Fault| {
        let sentence = fault.message.strip_prefix(&format!("{}: ", row.op.name)).map(str::to_owned);
        sentence.unwrap_or_else(|| fault.message.into_owned())
    };
    row.check(&request).map_err(said)?;
    if let Some(check) = row.op.check {
        check(&CheckContext { matches: &library.matches }, &request)?;
    }
    row.parse(&mut <dyn erased_serde::Deserializer<'_>>::erase(request)).map_err(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_by_position_and_requests_whole() {
        let given = vec![Value::text("arena"), Value::Nil];
        assert_eq!(
            bind_args(&["module", "params"], given),
            Ok(Value::map([("module", Value::text("arena"))]))
        );
        assert_eq!(bind_args(&[], vec![Value::Int(1)]), Ok(Value::Int(1)));
        assert_eq!(bind_args(&[], vec![]), Ok(Value::Nil));
        assert!(bind_args(&["a"], vec![Value::Nil, Value::Nil]).is_err());
    }
}
