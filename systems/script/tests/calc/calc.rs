//! Calc as a runtime: what its files are, and the machines that run them.

use kaos_script::runtime::{
    Called, Checked, MatchMachine, Opening, Program, RegisterKind, Registered, ServiceMachine, StateHash,
};
use kaos_script::{
    Callback, Diagnostic, FunctionName, Host, Left, MatchInit, Message, Presence, Runtime, ScriptError, Value,
};

use super::language::{File, file, run};

/// See [`language`](super::language).
pub(crate) struct Calc;

impl Runtime for Calc {
    fn name(&self) -> &'static str {
        "Calc"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["calc"]
    }

    fn check(&self, program: &Program) -> Checked {
        let mut checked = Checked::default();
        for path in program.files(self) {
            let file = match file(program, path) {
                Ok(file) => file,
                Err(error) => {
                    checked.wrong.push(error.into());
                    continue;
                }
            };
            checked.registered.extend(registered(&file));
            let has = |callback: Callback| Ok::<_, ()>(file.functions.contains_key(callback.name()));
            match Callback::missing(has) {
                Ok(Some(missing)) if missing.is_empty() => checked.matches.push(path.to_owned()),
                Ok(Some(missing)) => {
                    let message = format!("this match lacks {}", missing.join(", "));
                    checked.wrong.push(Diagnostic { file: file.shown, line: 0, message });
                }
                _ => {}
            }
        }
        checked
    }

    fn services(&self, program: &Program, _: u64) -> Result<(Box<dyn ServiceMachine>, i64), ScriptError> {
        let files = program.service_files(self).map(|path| file(program, path)).collect::<Result<_, _>>()?;
        Ok((Box::new(machine(program, files, &Value::Nil)), 10))
    }

    fn open(
        &self,
        program: &Program,
        opening: &Opening<'_>,
        host: &mut dyn Host,
    ) -> Result<(Box<dyn MatchMachine>, MatchInit), ScriptError> {
        let mut machine = machine(program, vec![file(program, opening.path)?], opening.ctx);
        let given = machine.callback(host, Callback::Init, [opening.params.clone()])?.unwrap_or_default();
        let few = |_| ScriptError::contract("", "match_init gives state, tick_rate and label");
        let [tick_rate, label] = <[Value; 2]>::try_from(given).map_err(few)?;
        let tick_rate = tick_rate.as_int().and_then(|rate| u8::try_from(rate).ok()).unwrap_or(0);
        Ok((Box::new(machine), MatchInit { tick_rate, label, max_players: None }))
    }
}

fn machine(program: &Program, files: Vec<File>, ctx: &Value) -> Machine {
    let (known, fuel) = (program.functions.to_vec(), program.limits.fuel);
    Machine { files, known, fuel, ctx: ctx.clone(), state: Value::Nil }
}

fn registered(file: &File) -> impl Iterator<Item = Registered> + '_ {
    file.functions.iter().filter_map(|(header, (line, _))| {
        let (kind, name) = header.split_once(' ')?;
        let kinds = [RegisterKind::Rpc, RegisterKind::Before, RegisterKind::After];
        let kind = kinds.into_iter().find(|known| known.name() == kind)?;
        Some(Registered { kind, name: name.to_owned(), file: file.shown.clone(), line: *line })
    })
}

/// A machine of either kind: the state and `ctx` are those of a match.
struct Machine {
    files: Vec<File>,
    known: Vec<FunctionName>,
    fuel: i64,
    ctx: Value,
    state: Value,
}

impl ServiceMachine for Machine {
    fn registered(&self) -> Vec<Registered> {
        self.files.iter().flat_map(registered).collect()
    }

    fn call(
        &mut self,
        host: &mut dyn Host,
        (kind, name): (RegisterKind, &str),
        arguments: &[Value],
        fuel: i64,
    ) -> Option<Result<Called<Vec<Value>>, ScriptError>> {
        let header = format!("{} {name}", kind.name());
        self.files.iter().find_map(|file| run(file, &self.known, host, (&header, arguments), fuel))
    }

    fn collect(&mut self) {}

    fn hash(&mut self) -> StateHash {
        StateHash { hash: self.files.len() as u64, values: 1, complete: true }
    }
}

impl Machine {
    /// Keeps the first result as the state and gives the others; `None`: there was no result, or no such callback.
    fn callback<const N: usize>(
        &mut self,
        host: &mut dyn Host,
        callback: Callback,
        arguments: [Value; N],
    ) -> Result<Option<Vec<Value>>, ScriptError> {
        let mut all = vec![self.ctx.clone()];
        // `match_init` has no state yet.
        all.extend((callback != Callback::Init).then(|| self.state.clone()));
        all.extend(arguments);
        let Some(called) = run(&self.files[0], &self.known, host, (callback.name(), &all), self.fuel) else {
            return Ok(None);
        };
        let mut given = called?.value.into_iter();
        let Some(state) = given.next() else { return Ok(None) };
        self.state = state;
        Ok(Some(given.collect()))
    }
}

fn people(presences: &[Presence<'_>]) -> Value {
    Value::List(presences.iter().map(|who| Value::text(who.username)).collect())
}

impl MatchMachine for Machine {
    fn join_attempt(
        &mut self,
        host: &mut dyn Host,
        presence: Presence<'_>,
        metadata: &Value,
    ) -> Result<Result<(), String>, ScriptError> {
        let given = self.callback(host, Callback::JoinAttempt, [people(&[presence]), metadata.clone()])?;
        let mut given = given.unwrap_or_else(|| vec![Value::Bool(true)]).into_iter();
        match (given.next(), given.next()) {
            (Some(Value::Bool(true)), _) => Ok(Ok(())),
            (_, reason) => Ok(Err(reason.unwrap_or_default().as_str().unwrap_or("no").to_owned())),
        }
    }

    fn join(&mut self, host: &mut dyn Host, presences: &[Presence<'_>]) -> Result<(), ScriptError> {
        self.callback(host, Callback::Join, [people(presences)]).map(drop)
    }

    fn leave(&mut self, host: &mut dyn Host, presences: &[Presence<'_>]) -> Result<(), ScriptError> {
        self.callback(host, Callback::Leave, [people(presences)]).map(drop)
    }

    fn tick(
        &mut self,
        host: &mut dyn Host,
        tick: u64,
        messages: &[Message<'_>],
    ) -> Result<Left, ScriptError> {
        let data = Value::List(messages.iter().map(|message| Value::text(message.data)).collect());
        let left = self.callback(host, Callback::Loop, [Value::Int(tick.cast_signed()), data])?;
        Ok(left.map_or(Left::Ended, |_| Left::Running))
    }

    fn signal(&mut self, host: &mut dyn Host, data: &Value) -> Result<Value, ScriptError> {
        let given = self.callback(host, Callback::Signal, [data.clone()])?;
        Ok(given.and_then(|given| given.into_iter().next()).unwrap_or_default())
    }

    fn terminate(&mut self, host: &mut dyn Host, grace_s: u32) -> Result<(), ScriptError> {
        self.callback(host, Callback::Terminate, [Value::Int(grace_s.into())]).map(drop)
    }

    fn set_ctx(&mut self, field: &str, value: &Value) -> Result<(), ScriptError> {
        if let Value::Map(fields) = &mut self.ctx {
            fields.insert(field.to_owned(), value.clone());
        }
        Ok(())
    }

    fn rest(&mut self, _: u64) {}

    fn hash(&mut self) -> StateHash {
        let bytes = format!("{:?}", self.state);
        let hash = bytes.bytes().fold(0_u64, |hash, byte| hash.rotate_left(5) ^ u64::from(byte));
        StateHash { hash, values: 1, complete: true }
    }

    fn state(&mut self) -> Result<Value, String> {
        Ok(self.state.clone())
    }

    fn memory_bytes(&self) -> usize {
        0
    }
}
