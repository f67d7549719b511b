//! What is said about a key that does not exist.

use kaos_kernel::spelling::nearest;

use super::keys::{first_of, is_section, keys};

/// Keys that have another name now: who still has the old one is told the new one.
pub(super) const RENAMED: [(&str, &str); 3] = [
    ("session.keep_bytes", "session.resend_bytes"),
    ("limit.session_rooms_made_max", "limit.session_rooms_created_max"),
    ("limit.address_rooms_made_max", "limit.address_rooms_created_max"),
];

/// The sentence about a key that does not exist.
pub(crate) fn unknown(path: &str) -> String {
    if is_section(path) {
        return format!(
            "`{path}` is a section: its keys stand under it, such as `{path}.{}`",
            first_of(path)
        );
    }
    if let Some((_, new)) = RENAMED.iter().find(|(old, _)| *old == path) {
        return format!("`{path}` is called `{new}` now");
    }
    format!("unknown key `{path}`{}", near(path))
}

/// `. Did you mean …?`: a key of the same section with a similar name, or the same name in another section.
fn near(path: &str) -> String {
    let Some((section, name)) = path.split_once('.').filter(|(section, _)| is_section(section)) else {
        let sections =
            keys().iter().filter_map(|key| key.path.split_once('.')).map(|(section, _)| section.to_owned());
        return nearest(path, keys().iter().map(|key| key.path.clone()).chain(sections));
    };
    let below = keys().iter().filter_map(|key| key.path.strip_prefix(section)?.strip_prefix('.'));
    let similar = nearest(name, below.map(str::to_owned));
    if !similar.is_empty() {
        return similar.replacen('`', &format!("`{section}."), 1);
    }
    let elsewhere = keys().iter().find(|key| key.path.rsplit('.').next() == Some(name));
    elsewhere.map_or(String::new(), |key| format!(". Did you mean `{}`?", key.path))
}
