//! Uses of `kaos.name`, and of other modules, in the text of a script, found without running it: strings and comments are none.

/// One use.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Use<'a> {
    /// The module.
    pub(super) module: &'a str,
    /// The name behind it.
    pub(super) name: String,
    /// The line.
    pub(super) line: u32,
    /// Is it called where it stands?
    pub(super) called: bool,
}

/// A part of the text that matters here.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Token<'a> {
    /// A name or a keyword.
    Name(&'a [u8]),
    /// A string, of any kind.
    Text,
    /// Any other character.
    Sign(u8),
}

/// Every use of a name of one of the `modules`, in the order of the text.
pub(super) fn uses<'a>(text: &[u8], modules: &[&'a str]) -> Vec<Use<'a>> {
    let tokens = tokens(text);
    let sign = |at: usize, sign| tokens.get(at).is_some_and(|(token, _)| *token == Token::Sign(sign));
    let mut uses = Vec::new();
    for (at, (token, _)) in tokens.iter().enumerate() {
        let (Token::Name(module), Some((Token::Name(name), line))) = (token, tokens.get(at + 2)) else {
            continue;
        };
        let Some(&module) = modules.iter().find(|known| known.as_bytes() == *module) else { continue };
        // `my.kaos.x` and `my:kaos` are other things; `a..kaos.x` is this one.
        let before = |back: usize, is: u8| at >= back && sign(at - back, is);
        let inner = before(1, b':') || before(1, b'.') && !before(2, b'.');
        if inner || !sign(at + 1, b'.') {
            continue;
        }
        let called = matches!(tokens.get(at + 3), Some((Token::Text | Token::Sign(b'(' | b'{'), _)));
        uses.push(Use { module, name: String::from_utf8_lossy(name).into_owned(), line: *line, called });
    }
    uses
}

fn tokens(text: &[u8]) -> Vec<(Token<'_>, u32)> {
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1_u32);
    while let Some(&byte) = text.get(at) {
        let rest = text.get(at..).unwrap_or_default();
        let (length, token) = match byte {
            b'-' if rest.starts_with(b"--") => {
                let comment = rest.get(2..).unwrap_or_default();
                let end = || comment.iter().position(|b| *b == b'\n').unwrap_or(comment.len());
                (2 + long(comment).unwrap_or_else(end), None)
            }
            b'"' | b'\'' => (quoted(rest), Some(Token::Text)),
            b'[' => match long(rest) {
                Some(length) => (length, Some(Token::Text)),
                None => (1, Some(Token::Sign(byte))),
            },
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | 0x80.. => {
                let part = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_' || *b >= 0x80;
                let length = rest.iter().take_while(|b| part(b)).count();
                (length, Some(Token::Name(rest.get(..length).unwrap_or_default())))
            }
            _ if byte.is_ascii_whitespace() => (1, None),
            _ => (1, Some(Token::Sign(byte))),
        };
        tokens.extend(token.map(|token| (token, line)));
        let passed = rest.get(..length).unwrap_or(rest);
        let lines = passed.iter().filter(|b| **b == b'\n').count();
        line = line.saturating_add(u32::try_from(lines).unwrap_or(u32::MAX));
        at += length;
    }
    tokens
}

/// The length of a string in quotes. One that is not closed ends with its line.
fn quoted(text: &[u8]) -> usize {
    let quote = text.first().copied();
    let mut at = 1;
    while let Some(&byte) = text.get(at) {
        match byte {
            // `\z` passes over line breaks too; the text loads, so what follows is right.
            b'\\' => at += 1,
            b'\n' => return at,
            _ if Some(byte) == quote => return at + 1,
            _ => {}
        }
        at += 1;
    }
    text.len()
}

/// The length of `[[ … ]]` or `[=[ … ]=]`, if `text` begins with it. One that is not closed goes to the end.
fn long(text: &[u8]) -> Option<usize> {
    let level = text.strip_prefix(b"[")?.iter().take_while(|b| **b == b'=').count();
    let inside = text.get(level + 1..)?.strip_prefix(b"[")?;
    let mut close = vec![b'='; level + 2];
    close[0] = b']';
    close[level + 1] = b']';
    let end = inside.windows(level + 2).position(|window| window == close);
    Some(end.map_or(text.len(), |end| level + 2 + end + level + 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(String, u32, bool)> {
        uses(text.as_bytes(), &["kaos"]).into_iter().map(|u| (u.name, u.line, u.called)).collect()
    }

    #[test]
    fn calls_are_told_from_looks() {
        for (text, called) in [
            ("kaos.x()", true),
            ("kaos.x \n (1)", true),
            ("kaos . x 'a'", true),
            ("kaos.x [[a]]", true),
            ("kaos.x{}", true),
            ("a..kaos.x()", true),
            ("if kaos.x then end", false),
            ("local f = kaos.x", false),
            ("kaos.x[1]", false),
        ] {
            assert_eq!(found(text).iter().map(|u| u.2).collect::<Vec<_>>(), [called], "{text}");
        }
    }

    #[test]
    fn strings_and_comments_are_none() {
        for text in [
            "-- kaos.x()",
            "--[[ kaos.x()\n kaos.y() ]]",
            "--[==[ ]] kaos.x() ]==]",
            "f('kaos.x()')",
            "f(\"\\\"kaos.x()\")",
            "f[[\nkaos.x()]]",
            "f[=[ ]] kaos.x() ]=]",
            "my.kaos.x()",
            "mykaos.x()",
            "kaos['x']()",
            "f('see kaos.dev for help')",
        ] {
            assert_eq!(found(text), [], "{text}");
        }
        let text = "--[[\n]] kaos.a()\nf('\\\n') kaos.b()\n--[ kaos.c()\nkaos.d() -- kaos.e()";
        let names: Vec<_> = found(text).into_iter().map(|(name, line, _)| (name, line)).collect();
        assert_eq!(names, [("a".to_owned(), 2), ("b".to_owned(), 4), ("d".to_owned(), 6)]);
    }

    #[test]
    fn what_does_not_end_ends_with_the_text() {
        for text in ["'", "\"\\", "[[", "--[[", "[==", "--[=", "kaos", "kaos.", "[=[ ]]"] {
            assert_eq!(found(text), [], "{text}");
        }
    }
}
