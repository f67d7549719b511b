//! The rule for names, and suggestions for mistyped ones.

/// Whether a text may be the name of an operation, an event or a job: lower-case letters, digits, dots and underscores,
/// at least one.
pub(crate) fn is_dotted_name(name: &str) -> bool {
    let is_allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'_';
    !name.is_empty() && name.bytes().all(is_allowed)
}

/// `. Did you mean …?` for the nearest of `names`; empty when none is near. A name is near if it differs by at most one
/// edit per four letters, but at least one and at most three edits are allowed. Two neighbouring letters that are
/// swapped count as one edit. For a name of over 64 bytes there is no suggestion: the time of a comparison grows with
/// the product of both lengths, and clients choose one of them.
pub fn nearest(name: &str, names: impl Iterator<Item = String>) -> String {
    if name.len() > 64 {
        return String::new();
    }
    let best = names.map(|other| (strsim::osa_distance(name, &other), other)).min();
    match best {
        Some((distance, other)) if distance <= (name.chars().count() / 4).clamp(1, 3) => {
            format!(". Did you mean `{other}`?")
        }
        _ => String::new(),
    }
}
