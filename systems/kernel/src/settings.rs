//! What can be set: sections of keys, which their owners write, and the values that were set for them.
//!
//! `macros` is how an owner writes a section, `row` what is known of one of its keys, `section` the section as a type, `table`
//! all sections of a server; `node` is the section that has no other owner. Nothing here knows whose sections there are.

mod macros;
mod node;
mod row;
mod section;
mod table;
pub use node::NodeSettings;
pub use row::{SettingRange, SettingRow};
pub(crate) use section::add;
pub use section::{Section, dependent, mistyped, out_of_range, read_value, write_value};
pub use table::{SectionRows, Sections};

use std::collections::BTreeMap;
use std::fmt;

use bevy_ecs::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// What was set, by key: `room.empty_ms`. A key that is not in it has its default. It never changes while a server runs.
#[derive(Resource, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Settings(BTreeMap<String, Json>);

// The names alone: some values are secrets.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Settings {
    /// Sets a key. Whether it is there and takes the value is found out when a server is built.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<Json>) {
        self.0.insert(key.into(), value.into());
    }

    /// What was set for a key.
    pub fn get(&self, key: &str) -> Option<&Json> {
        self.0.get(key)
    }

    /// Every key that was set, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Json)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// Reads a section.
    ///
    /// # Errors
    /// A sentence for each value of another type.
    pub fn section<S: Section>(&self) -> Result<S, Vec<String>> {
        S::read(self)
    }

    /// Changes a section; all of its keys are set after that.
    ///
    /// # Errors
    /// As [`Settings::section`], and then nothing is changed.
    pub fn change<S: Section>(&mut self, change: impl FnOnce(&mut S)) -> Result<(), Vec<String>> {
        let mut section = S::read(self)?;
        change(&mut section);
        section.write(self);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bevy_app::App;

    use super::*;
    use crate::room::RoomSettings;
    use crate::script::MatchSettings;
    use crate::session::SessionSettings;

    crate::settings! {
        /// A shop.
        struct ShopSettings in "shop", checked by closed {
            /// When it opens.
            opens: u8 = 8, in 0..=23, unit "hours", shown to scripts;
            /// When it closes.
            closes: u8 = 18, within |shop| shop.opens..=24, unit "hours";
            /// What it costs to come in.
            fee: f64 = 0.5, in 0.0..=1.5;
            /// What it sells.
            goods: Vec<String> = vec!["tea".to_owned()], was "shop.wares";
            /// Who keeps it.
            keeper: Option<String> = None, shown to scripts;
            /// The key of the till.
            till: Option<String> = Some("1234".to_owned()), kept secret;
        }
    }

    fn closed(shop: &ShopSettings) -> Vec<String> {
        if shop.goods.is_empty() { vec!["`shop.goods` is empty".to_owned()] } else { Vec::new() }
    }

    fn table() -> Sections {
        let mut table = Sections::default();
        table.add::<SessionSettings>();
        table.add::<RoomSettings>();
        table.add::<MatchSettings>();
        table.add::<NodeSettings>();
        table.add::<ShopSettings>();
        table
    }

    fn set(values: &[(&str, Json)]) -> Settings {
        Settings(values.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect())
    }

    fn wrong(key: &str, value: impl Into<Json>) -> Vec<String> {
        let set = set(&[(key, value.into())]);
        let table = table();
        let sections = table.iter().flat_map(|section| section.wrong(&set)).collect::<Vec<_>>();
        table.all_unknown(&set).into_iter().chain(sections).collect()
    }

    #[test]
    fn the_defaults_are_in_range() {
        let table = table();
        assert_eq!(table.errors(), [""; 0]);
        for settings in [Settings::default(), table.whole(&Settings::default())] {
            assert_eq!(table.iter().flat_map(|section| section.wrong(&settings)).count(), 0);
        }
    }

    #[test]
    fn what_does_not_fit_is_said_in_a_sentence_that_begins_with_its_key() {
        for (key, value, sentence) in [
            ("session.idle_ms", Json::from(1500), "`session.idle_ms` is 1500: it goes from 2001 to 600000"),
            ("room.max_players", 0.into(), "`room.max_players` is 0: it goes from 1 to 1000"),
            ("room.max_players", (-1).into(), "`room.max_players` is -1: expected a whole number"),
            ("node", "".into(), "`node` is a name of 1 to 64 bytes"),
            ("shop.opens", 24.into(), "`shop.opens` is 24: it goes from 0 to 23"),
            ("shop.opens", "x".into(), "`shop.opens` is \"x\": expected a whole number from 0 to 23"),
            ("shop.closes", 7.into(), "`shop.closes` is 7: it goes from 8 to 24"),
            ("shop.fee", 2.into(), "`shop.fee` is 2: it goes from 0 to 1.5"),
            ("shop.goods", Json::Array(Vec::new()), "`shop.goods` is empty"),
            ("shop.till", 5.into(), "`shop.till` has another type: expected a text or null"),
            ("shop.oppens", 5.into(), "unknown key `shop.oppens`. Did you mean `shop.opens`?"),
            ("shop.node", 5.into(), "unknown key `shop.node`. Did you mean `node`?"),
            ("shop.wares", 5.into(), "`shop.wares` is called `shop.goods` now"),
            ("shop", 5.into(), "`shop` is a section: its keys stand under it, such as `shop.opens`"),
            ("shp.opens", 5.into(), "unknown key `shp.opens`. Did you mean `shop.opens`?"),
            (
                "guests.max",
                5.into(),
                "unknown key `guests.max`: no plugin of this server has a section `guests`",
            ),
            ("nodes", 5.into(), "unknown key `nodes`. Did you mean `node`?"),
        ] {
            assert_eq!(wrong(key, value), [sentence]);
        }
    }

    #[test]
    fn values_at_the_ends_of_their_types_are_refused_and_not_reckoned_with() {
        let heartbeat = wrong("session.heartbeat_ms", u64::MAX);
        assert!(heartbeat[0].starts_with("`session.heartbeat_ms` is "), "{heartbeat:?}");
        let fuel = wrong("match.fuel", i64::MIN);
        assert!(fuel[0].starts_with("`match.fuel` is -9223372036854775808: it goes from 1000 "), "{fuel:?}");
    }

    #[test]
    fn what_is_written_is_read() {
        let mut settings = Settings::default();
        settings.change(|shop: &mut ShopSettings| shop.fee = 1.0).expect("it has the type");
        assert_eq!(settings.section(), Ok(ShopSettings { fee: 1.0, ..ShopSettings::default() }));
        assert_eq!(settings.iter().count(), 6, "a changed section has all of its keys");
    }

    #[test]
    fn a_secret_is_neither_printed_nor_recorded() {
        let (table, settings) = (table(), set(&[("shop.till", "4321".into())]));
        assert!(!format!("{settings:?}{:?}", ShopSettings::default()).contains("1234"));
        assert_eq!(table.whole(&settings).get("shop.till"), Some(&"4321".into()));
        let recorded = table.whole_but_secrets(&settings);
        assert_eq!((recorded.get("shop.till"), recorded.get("shop.fee")), (None, Some(&0.5.into())));
    }

    #[test]
    fn scripts_see_what_is_shown_to_them() {
        let shown = table().shown_to_scripts(&set(&[("shop.opens", 9.into())]));
        assert_eq!(shown, Some(serde_json::json!({ "shop": { "opens": 9, "keeper": null } })));
        let whole = table().whole(&set(&[("shop.fee", 1.into())]));
        assert_eq!(
            whole.get("shop.fee"),
            Some(&1.0.into()),
            "a value has the type of its key wherever it is shown"
        );
        assert_eq!(Sections::default().shown_to_scripts(&Settings::default()), None);
    }

    #[test]
    fn what_no_file_or_variable_could_name_stops_the_start() {
        crate::settings! {
            /// Keys of others.
            struct Thief in "shop" {
                /// The same key.
                opens: bool = false;
            }
        }
        crate::settings! {
            /// A key whose variable is another's.
            struct Mimic in "" {
                /// The same variable.
                shop_closes: bool = false;
            }
        }
        crate::settings! {
            /// A name that no variable could have.
            struct Loud in "Loud" {
                /// A key.
                key: bool = false;
            }
        }
        crate::settings! {
            /// A key with the name of a section.
            struct Keeper in "" {
                /// A key.
                shop: bool = false;
            }
        }
        crate::settings! {
            /// A section with the name of a key.
            struct Nodes in "node" {
                /// A key.
                many: bool = false;
            }
        }
        crate::settings! {
            /// A secret that scripts see.
            struct Gossip in "gossip" {
                /// A key.
                key: bool = false, shown to scripts, kept secret;
            }
        }
        crate::settings! {
            /// A secret that would be printed.
            struct Pin in "pin" {
                /// A key.
                key: u32 = 1234, in 1000..=9999, kept secret;
            }
        }
        let mut table = table();
        table.add::<Thief>();
        table.add::<Mimic>();
        table.add::<Loud>();
        table.add::<Keeper>();
        table.add::<Nodes>();
        table.add::<Gossip>();
        table.add::<Pin>();
        let sentences = [
            "setting `shop.opens`: registered twice; a key belongs to one plugin",
            "setting `shop_closes`: its variable would be the one of `shop.closes`",
            "setting `Loud.key`: a name has lower-case letters, digits and underscores",
            "setting `shop`: a section and a key have the same name",
            "setting `node.many`: a section and a key have the same name",
            "setting `gossip.key`: what is kept secret cannot be shown to scripts",
            "setting `pin.key`: a secret has no range, which would print it when it is wrong",
        ];
        assert_eq!(table.errors(), sentences);
    }

    #[test]
    fn a_registered_section_is_a_resource_with_what_was_set() {
        let mut app = App::empty();
        app.insert_resource(set(&[("shop.opens", 9.into())]));
        add::<ShopSettings>(&mut app);
        assert_eq!(app.world().resource::<ShopSettings>().opens, 9);
        app.insert_resource(set(&[("room.seats_max", 0.into())]));
        add::<RoomSettings>(&mut app);
        assert_eq!(app.world().resource::<RoomSettings>().seats_max, 1000, "what is wrong holds nowhere");
        assert_eq!(
            app.world().resource::<Sections>().errors()[0],
            "`room.seats_max` is 0: it goes from 1 to 65535"
        );
    }

    #[test]
    fn a_row_in_a_line_has_unit_and_range() {
        let line = |key: &str| table().row(key).map(SettingRow::line).expect("a row");
        assert_eq!(line("shop.opens"), "When it opens. (hours, 0 to 23)");
        assert_eq!(line("shop.closes"), "When it closes. (hours, 8 to 24 by default)");
        assert_eq!(line("shop.keeper"), "Who keeps it.");
    }
}
