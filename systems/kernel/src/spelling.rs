//! What a name may be, and the nearest of the known names for whoever mistyped one.

/// Whether a name may be that of an op, an event or a job: lower-case letters, digits, dots and underscores, at least one.
pub(crate) fn is_dotted_name(name: &str) -> bool {
    let in_name = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'_';
    !name.is_empty() && name.bytes().all(in_name)
}

/// `. Did you mean …?` for the nearest of the names, when one is near: one slip of the finger, or one in four letters
/// up to three; two letters that changed places are one slip. A name of over 64 bytes is near to none: the comparison
/// takes the product of both lengths, and clients choose one of them.
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
