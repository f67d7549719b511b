//! Every key that can be set: those of the sections here, of the kernel and of plugins, in one table.

use kaos_kernel::prelude::App;
use kaos_kernel::settings::Sections;

use super::sections::{
    AuthSettings, ConnectionSettings, HttpSettings, JournalSettings, LogSettings, MetricsSettings,
    PlaygroundSettings, ServerSettings, UdpSettings,
};
use crate::compose;

/// The order in which people read the sections; those of plugins follow.
const ORDER: [&str; 12] = [
    "",
    "http",
    "udp",
    "session",
    "room",
    "match",
    "call",
    "limit",
    "journal",
    "metrics",
    "playground",
    "log",
];

/// Everything that can be set of a server with these plugins. They are built as for one, and nothing is made of it.
pub fn sections(plugins: impl FnOnce(&mut App)) -> Sections {
    let mut all = outside();
    all.append(compose::sections(plugins));
    let mut names: Vec<&str> = ORDER.to_vec();
    let others: Vec<&str> =
        all.iter().map(|section| section.name).filter(|name| !names.contains(name)).collect();
    names.extend(others);
    all.sort_by_key(|name| names.iter().position(|known| *known == name));
    all
}

/// The sections outside of the frame.
pub(super) fn outside() -> Sections {
    let mut sections = Sections::default();
    sections.add::<ServerSettings>();
    sections.add::<HttpSettings>();
    sections.add::<UdpSettings>();
    sections.add::<AuthSettings>();
    sections.add::<ConnectionSettings>();
    sections.add::<JournalSettings>();
    sections.add::<MetricsSettings>();
    sections.add::<PlaygroundSettings>();
    sections.add::<LogSettings>();
    sections
}

/// The variable of a key: `KAOS_ROOM_MAX_PLAYERS`.
pub fn variable(key: &str) -> String {
    format!("KAOS_{}", key.replace('.', "_").to_uppercase())
}

#[cfg(test)]
mod tests {
    use kaos_kernel::prelude::*;

    use super::*;
    use crate::config::{defaults_yaml, load};

    settings! {
        /// A plugin's section.
        struct ShopSettings in "shop" {
            /// What it sells.
            goods: Vec<String> = vec!["tea".to_owned()];
        }
    }

    settings! {
        /// A plugin's key in a section of the server.
        struct TickSettings in "room" {
            /// A key.
            bell: bool = false;
        }
    }

    settings! {
        /// A plugin that takes a key of the server.
        struct Thief in "http" {
            /// A key.
            address: String = String::new();
        }
    }

    #[test]
    fn keys_of_plugins_are_set_like_those_of_the_server() {
        let sections = sections(|app| {
            app.settings::<ShopSettings>().settings::<TickSettings>();
        });
        let yaml = defaults_yaml(&sections);
        assert!(yaml.ends_with("\nshop:\n  # What it sells.\n  goods: [\"tea\"]\n"), "{yaml}");
        assert_eq!(
            yaml.matches("\nroom:\n").count(),
            1,
            "a section stands in one place, whoever has keys in it"
        );
        let env = [("KAOS_SHOP_GOODS".into(), "salt, soap".into())];
        let loaded = load(sections, None, env, &[("room.bell".into(), "true".into())]).expect("they hold");
        let settings = loaded.config.settings();
        assert_eq!(
            settings.section().map(|shop: ShopSettings| shop.goods),
            Ok(vec!["salt".into(), "soap".into()])
        );
        assert_eq!(settings.section(), Ok(TickSettings { bell: true }));
    }

    #[test]
    fn a_plugin_cannot_have_a_key_of_the_server() {
        let sections = sections(|app| {
            app.settings::<Thief>();
        });
        let sentence = "setting `http.address`: registered twice; a key belongs to one plugin";
        assert_eq!(sections.errors(), [sentence]);
        let error = load(sections, None, [], &[]).expect_err("it is taken");
        assert_eq!(error.0.first().map(|problem| problem.message.as_str()), Some(sentence));
    }
}
