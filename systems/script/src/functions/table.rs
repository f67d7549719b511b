//! Every function that scripts call, and how it is called.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kaos_kernel::op::{CheckContext, OpId, OpRow, OpTable, Payload};
use kaos_kernel::prelude::*;
use kaos_kernel::server::BuildErrors;

use super::{
    FunctionCall, FunctionHost, FunctionName, Numbers, OWN, Registry, ScriptFunction, WAITS, Waits, uuid,
};
use crate::error::{RefusalCode, ScriptRefusal};
use crate::host::Raised;
use crate::value::Value;

/// A function as it is called.
enum Row {
    /// Calls an operation.
    Op(OpId),
    /// Does what a feature registered.
    Function(ScriptFunction),
}

/// Every function, by the number under which machines know it.
pub struct Functions {
    names: Arc<[FunctionName]>,
    rows: Vec<Row>,
    ops: Arc<OpTable>,
    /// The operation that `kaos.broadcast` is in an rpc.
    broadcast: Option<String>,
    numbers: Option<Numbers>,
}

impl Functions {
    /// Those of the server's own, of features and of operations. What does not fit together goes to the build's errors.
    pub(crate) fn of(world: &mut World, ops: Arc<OpTable>) -> Self {
        let Registry { functions, modules } = world.remove_resource().unwrap_or_default();
        let (mut known, mut wrong) = (BTreeSet::new(), Vec::new());
        known.extend(OWN.map(FunctionName::kaos));
        let mut table =
            Functions { names: Arc::default(), rows: Vec::new(), ops, broadcast: None, numbers: None };
        let mut names = Vec::new();
        let registered = std::iter::once(uuid())
            .chain(functions)
            .map(|function| (function.name.clone(), Row::Function(function)));
        let calls = table.ops.rows().iter().filter(|row| row.op.script.is_function());
        let calls = calls.map(|row| (FunctionName::kaos(row.op.script_name()), Row::Op(row.id)));
        for (name, row) in registered.chain(calls).collect::<Vec<_>>() {
            if !known.insert(name.clone()) {
                wrong.push(format!("the script function `{name}` is there already: give yours another name"));
                continue;
            }
            names.push(name);
            table.rows.push(row);
        }
        for module in modules {
            let Some(numbers) = module.numbers else { continue };
            if table.numbers.replace(numbers).is_some() {
                wrong.push(format!(
                    "the script module `{}` says what numbers mean, and so does another one",
                    module.name
                ));
            }
        }
        let broadcast = table.ops.rows().iter().find(|row| row.op.script == ScriptUse::Broadcast);
        table.broadcast = broadcast.map(|row| row.op.name.clone());
        table.names = names.into();
        world.resource_mut::<BuildErrors>().0.extend(wrong);
        table
    }

    /// Their names, by number.
    pub fn names(&self) -> &Arc<[FunctionName]> {
        &self.names
    }

    /// The operation that `kaos.broadcast` is in an rpc.
    pub(crate) fn broadcast(&self) -> Option<&str> {
        self.broadcast.as_deref()
    }

    /// Answers a script's call of function `number`.
    ///
    /// # Errors
    /// What the script is told at its line.
    pub(crate) fn call(
        &self,
        host: &mut dyn FunctionHost,
        number: usize,
        arguments: Vec<Value>,
        fuel: &mut i64,
    ) -> Result<Vec<Value>, Raised> {
        match self.rows.get(number).ok_or("this function is not there")? {
            Row::Op(id) => {
                let row = self.ops.get(*id).ok_or("this operation is not there")?;
                let request = bind_args(row.op.args, arguments, |name| row.request.names_field(name))?;
                host.op(row, request, fuel).map(|answer| vec![answer])
            }
            Row::Function(ScriptFunction { args, waits, work, .. }) => {
                if *waits == Waits::InRpcs && !host.may_wait() {
                    return Err(WAITS.into());
                }
                let arguments = fill(args, arguments)?;
                work(&mut FunctionCall { host, ops: &self.ops, fuel }, arguments)
            }
        }
    }

    /// What whoever asked a script is told of its refusal; `None`: it is a defect.
    pub(crate) fn told(&self, refusal: &ScriptRefusal) -> Option<Fault> {
        let kind = match refusal.code {
            RefusalCode::Kind(kind) => Some(kind),
            RefusalCode::Number(number) => self.numbers.and_then(|meaning| meaning(number)),
        };
        kind.map(|kind| refusal.fault(kind))
    }
}

/// As many arguments as a row names.
///
/// # Errors
/// A sentence: there are more.
fn fill(args: &[&str], mut given: Vec<Value>) -> Result<Vec<Value>, String> {
    let most = args.len();
    if given.len() > most {
        return Err(match most {
            0 => "takes no arguments".to_owned(),
            _ => format!("takes {most} arguments at most, {} were given", given.len()),
        });
    }
    given.resize(most, Value::Nil);
    Ok(given)
}

/// Puts arguments by position into a request. One table of fields is a request by name: so are the fields reached that have
/// no position, and an operation without positions takes nothing else.
///
/// # Errors
/// A sentence: there are more arguments than the operation has.
fn bind_args(args: &[&str], mut given: Vec<Value>, is_field: impl Fn(&str) -> bool) -> Result<Value, String> {
    let most = args.len().max(1);
    if given.len() > most {
        let names = args.join(", ");
        return Err(format!("takes {most} arguments at most ({names}), {} were given", given.len()));
    }
    if let [Value::Map(fields)] = &given[..]
        && !fields.is_empty()
        && fields.keys().all(|name| is_field(name))
    {
        return Ok(given.remove(0));
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
    matches: &BTreeMap<String, String>,
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
        check(&CheckContext { matches }, &request)?;
    }
    row.parse(&mut <dyn erased_serde::Deserializer<'_>>::erase(request)).map_err(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_by_position_and_requests_whole() {
        let given = vec![Value::text("arena"), Value::Nil];
        let is_field = |name: &str| ["module", "params", "label"].contains(&name);
        assert_eq!(
            bind_args(&["module", "params"], given, is_field),
            Ok(Value::map([("module", Value::text("arena"))]))
        );
        assert_eq!(bind_args(&[], vec![Value::Int(1)], is_field), Ok(Value::Int(1)));
        assert_eq!(bind_args(&[], vec![], is_field), Ok(Value::Nil));
        assert!(bind_args(&["a"], vec![Value::Nil, Value::Nil], is_field).is_err());
        let named = Value::map([("module", Value::text("arena")), ("label", Value::text("x"))]);
        assert_eq!(bind_args(&["module", "params"], vec![named.clone()], is_field), Ok(named));
        let table = Value::map([("speed", Value::Int(1))]);
        assert_eq!(
            bind_args(&["params"], vec![table.clone()], is_field),
            Ok(Value::map([("params", table)])),
            "a table that is the argument itself"
        );
    }

    #[test]
    fn a_function_gets_as_many_arguments_as_it_names() {
        assert_eq!(fill(&["a", "b"], vec![Value::Int(1)]), Ok(vec![Value::Int(1), Value::Nil]));
        assert_eq!(fill(&[], vec![Value::Nil]), Err("takes no arguments".to_owned()));
        let most = fill(&["a"], vec![Value::Nil, Value::Nil]);
        assert_eq!(most, Err("takes 1 arguments at most, 2 were given".to_owned()));
    }
}
