//! The files: `## case`, then steps. A step is a line `who: op request`, and the lines of what is expected.

use std::fmt;

use serde_json::Value as Json;

use super::doors::Door;

/// Characters of a line beyond which JSON is written over several.
const LINE_MAX: usize = 110;

pub(super) struct File {
    /// What the file is about, as it stands there.
    head: String,
    pub(super) cases: Vec<Case>,
}

pub(super) struct Case {
    name: String,
    pub(super) steps: Vec<Step>,
}

pub(super) struct Step {
    pub(super) line: usize,
    /// Comments before it.
    notes: Vec<String>,
    pub(super) who: Who,
    pub(super) op: String,
    pub(super) request: Json,
    pub(super) expected: Answer,
    /// What differs by design.
    pub(super) over: Vec<(Door, Answer)>,
}

/// Who calls.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Who {
    /// `anonymous <name>`: a session without proof. There is none over HTTP.
    Anonymous(String),
    /// `user <name>`: with a token, in a session or over HTTP.
    User(String),
    /// `nobody`: over HTTP, without credentials.
    Nobody,
}

#[derive(Clone)]
pub(super) enum Answer {
    /// `= JSON`
    Reply(Json),
    /// `! name: sentence`
    Refused {
        /// `None` where a door tells none.
        name: Option<String>,
        sentence: String,
    },
}

impl File {
    /// # Errors
    /// The line, and what is wrong with it.
    pub(super) fn read(text: &str) -> Result<File, String> {
        let mut file = File { head: String::new(), cases: Vec::new() };
        let mut notes = Vec::new();
        let mut lines = text.lines().enumerate().map(|(at, line)| (at + 1, line));
        while let Some((at, line)) = lines.next() {
            let wrong = |what: &str| format!("{at}: {what}: {line}");
            if let Some(name) = line.strip_prefix("## ") {
                file.cases.push(Case { name: name.to_owned(), steps: Vec::new() });
            } else if let Some(note) = line.strip_prefix("# ") {
                match file.cases.is_empty() {
                    true => file.head.push_str(&format!("# {note}\n")),
                    false => notes.push(note.to_owned()),
                }
            } else if !line.is_empty() {
                let case = file.cases.last_mut().ok_or_else(|| wrong("no `## case` before it"))?;
                let (door, mark, rest) = expectation(line);
                match (mark, case.steps.last_mut()) {
                    (None, _) => {
                        let step = Step::read(at, line, std::mem::take(&mut notes));
                        case.steps.push(step.ok_or_else(|| wrong("neither a step nor an answer"))?);
                    }
                    (Some(_), None) => return Err(wrong("an answer without a step")),
                    (Some(mark), Some(step)) => {
                        let mut answer = rest.to_owned();
                        let more = lines.by_ref().map(|(_, line)| line.to_owned());
                        let read = Answer::read(mark, &mut answer, more);
                        let answer = read.ok_or_else(|| wrong("an answer that cannot be read"))?;
                        match door {
                            Some(door) => {
                                let door = Door::named(door).ok_or_else(|| wrong("no such door"))?;
                                step.over.push((door, answer));
                            }
                            None => step.expected = answer,
                        }
                    }
                }
            }
        }
        Ok(file)
    }

    /// The file as it is read.
    pub(super) fn write(&self) -> String {
        let mut text = self.head.clone();
        for case in &self.cases {
            text.push_str(&format!("\n## {}\n", case.name));
            for step in &case.steps {
                text.push('\n');
                step.notes.iter().for_each(|note| text.push_str(&format!("# {note}\n")));
                text.push_str(&format!("{}: {}", step.who, step.op));
                if !step.request.is_null() {
                    text.push_str(&format!(" {}", step.request));
                }
                text.push_str(&format!("\n{}\n", step.expected));
                for (door, answer) in &step.over {
                    text.push_str(&format!("over {} {answer}\n", door.name()));
                }
            }
        }
        text
    }
}

/// The door, the mark and the rest of a line that expects something.
fn expectation(line: &str) -> (Option<&str>, Option<char>, &str) {
    let (door, rest) = match line.strip_prefix("over ").and_then(|rest| rest.split_once(' ')) {
        Some((door, rest)) => (Some(door), rest),
        None => (None, line),
    };
    match rest.split_at_checked(2) {
        Some(("= ", rest)) => (door, Some('='), rest),
        Some(("! ", rest)) => (door, Some('!'), rest),
        _ => (door, None, rest),
    }
}

impl Step {
    fn read(line: usize, text: &str, notes: Vec<String>) -> Option<Step> {
        let (who, call) = text.split_once(": ")?;
        let who = match who.split_once(' ') {
            Some(("anonymous", name)) => Who::Anonymous(name.to_owned()),
            Some(("user", name)) => Who::User(name.to_owned()),
            None if who == "nobody" => Who::Nobody,
            _ => return None,
        };
        let (op, request) = call.split_once(' ').unwrap_or((call, "null"));
        let request = serde_json::from_str(request).ok()?;
        let expected = Answer::Reply(Json::Null);
        Some(Step { line, notes, who, op: op.to_owned(), request, expected, over: Vec::new() })
    }
}

impl Answer {
    /// JSON may go on over several lines.
    fn read(mark: char, text: &mut String, mut more: impl Iterator<Item = String>) -> Option<Answer> {
        if mark == '!' {
            let (name, sentence) = text.split_once(": ")?;
            let name = (name != "-").then(|| name.to_owned());
            return Some(Answer::Refused { name, sentence: sentence.to_owned() });
        }
        loop {
            match serde_json::from_str(text) {
                Ok(reply) => return Some(Answer::Reply(reply)),
                Err(error) if error.is_eof() => text.push_str(&more.next()?),
                Err(_) => return None,
            }
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::Anonymous(name) => write!(f, "anonymous {name}"),
            Who::User(name) => write!(f, "user {name}"),
            Who::Nobody => f.write_str("nobody"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Reply(reply) => {
                let short = reply.to_string();
                if short.len() > LINE_MAX { write!(f, "= {reply:#}") } else { write!(f, "= {short}") }
            }
            Answer::Refused { name, sentence } => {
                write!(f, "! {}: {sentence}", name.as_deref().unwrap_or("-"))
            }
        }
    }
}

#[test]
fn a_file_is_written_as_it_was_read() {
    let text = "# What it is about.\n\n## a case\n\nanonymous ada: room.list {\"limit\":1}\n= [\"<room_id>\"]\n\n\
                # Why.\nnobody: room.list\n! unauthenticated: no: not so\nover script = null\nover rest ! -: never\n";
    let file = File::read(text).expect("readable");
    assert_eq!(file.write(), text);
    for wrong in ["= 1\n", "## a\n\n= 1\n", "## a\n\nada: room.list\n", "## a\n\nnobody: a\nover it = 1\n"] {
        assert!(File::read(wrong).is_err(), "{wrong}");
    }
}
