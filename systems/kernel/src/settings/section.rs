//! Settings that a plugin brings: type, default, range, unit and meaning are written once, in the plugin's own file.

use std::collections::BTreeMap;

use bevy_app::App;
use bevy_ecs::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json};

use super::Settings;
use crate::server::BuildErrors;
use crate::spelling::nearest;

/// A plugin's section of the configuration. [`settings!`](crate::settings!) writes it.
pub trait Section: Resource + Default {
    /// Its name, under which its keys stand: `guestbook`.
    const NAME: &'static str;

    /// Its keys.
    fn rows() -> Vec<SettingRow>;

    /// Its values by name.
    fn to_json(&self) -> Values;

    /// Reads values; a key that is missing has its default.
    ///
    /// # Errors
    /// A sentence that names the key: a value of another type.
    fn from_json(values: &Values) -> Result<Self, String>;
}

/// The values of a section, by name.
pub type Values = Map<String, Json>;

/// For [`settings!`](crate::settings!).
#[doc(hidden)]
pub fn to_json<T: Serialize>(value: &T) -> Json {
    // Numbers, texts, truth values and lists: JSON writes all of it.
    serde_json::to_value(value).unwrap_or_default()
}

/// For [`settings!`](crate::settings!).
#[doc(hidden)]
pub fn from_json<T: DeserializeOwned>(name: &str, value: &Json) -> Result<T, String> {
    T::deserialize(value).map_err(|error| format!("`{name}` is {value}: {error}"))
}

/// One key of a section.
#[derive(Clone, PartialEq, Debug)]
pub struct SettingRow {
    /// Its name in the section.
    pub name: &'static str,
    /// What it means, in sentences.
    pub doc: String,
    /// What it is counted in; empty: nothing.
    pub unit: &'static str,
    /// What holds when nobody says otherwise.
    pub default: Json,
    /// The least and the most, for numbers.
    pub range: Option<(f64, f64)>,
    /// Whether scripts see it, as `ctx.settings.<section>.<name>`.
    pub in_ctx: bool,
}

impl SettingRow {
    /// What kind of value it takes, in words.
    pub fn kind(&self) -> String {
        let kind = match &self.default {
            Json::Bool(_) => "true or false",
            Json::Number(number) if number.is_f64() => "a number",
            Json::Number(_) => "a whole number",
            Json::Array(_) => "a list",
            _ => "a text",
        };
        match self.range {
            Some((min, max)) => format!("{kind} from {min} to {max}"),
            None => kind.to_owned(),
        }
    }

    /// Whether a value has the type of this key; its range is another question.
    pub fn takes(&self, value: &Json) -> bool {
        match (&self.default, value) {
            (Json::Number(default), Json::Number(_)) if default.is_f64() => true,
            (Json::Number(_), Json::Number(number)) => number.is_i64() || number.is_u64(),
            (Json::Bool(_), Json::Bool(_))
            | (Json::String(_), Json::String(_))
            | (Json::Array(_), Json::Array(_))
            | (Json::Object(_), Json::Object(_)) => true,
            (Json::Null, _) => true,
            _ => false,
        }
    }

    /// Meaning, unit and range in one line, for a page or a comment.
    pub fn line(&self) -> String {
        let unit = if self.unit.is_empty() { String::new() } else { format!(" In {}.", self.unit) };
        let range = self.range.map_or_else(String::new, |(min, max)| format!(" {min} to {max}."));
        format!("{}{unit}{range}", self.doc)
    }
}

/// A section as it was registered.
#[derive(Clone, PartialEq, Debug)]
pub struct SectionRows {
    /// Its name.
    pub name: &'static str,
    /// Its keys, in the order in which they were written.
    pub rows: Vec<SettingRow>,
}

impl SectionRows {
    /// The section with nothing set.
    pub fn defaults(&self) -> Json {
        Json::Object(self.rows.iter().map(|row| (row.name.to_owned(), row.default.clone())).collect())
    }

    /// Everything that is wrong with values for this section, a sentence each; each begins with its key in back quotes.
    pub fn wrong(&self, values: &Values) -> Vec<String> {
        let mut wrong = Vec::new();
        for (name, value) in values {
            let path = format!("{}.{name}", self.name);
            let Some(row) = self.rows.iter().find(|row| row.name == name) else {
                let near = nearest(name, self.rows.iter().map(|row| row.name.to_owned()));
                wrong.push(format!("`{path}`: there is no such key{near}"));
                continue;
            };
            if !row.takes(value) {
                wrong.push(format!("`{path}` is {value}: expected {}", row.kind()));
            } else if let (Some((min, max)), Some(number)) = (row.range, value.as_f64())
                && !(min..=max).contains(&number)
            {
                wrong.push(format!("`{path}` is {value}: it goes from {min} to {max}"));
            }
        }
        wrong
    }
}

/// The sections that plugins registered, in the order of registration.
#[derive(Resource, Clone, Default, Debug)]
pub struct Sections(pub Vec<SectionRows>);

/// The settings that scripts see, by section and name.
#[derive(Resource, Clone, Default, Debug)]
pub struct ScriptSettings(pub BTreeMap<String, BTreeMap<String, Json>>);

/// Registers a section: reads what was set for it, and makes it a resource.
pub(crate) fn add<S: Section>(app: &mut App) {
    app.init_resource::<Sections>().init_resource::<ScriptSettings>().init_resource::<BuildErrors>();
    let section = SectionRows { name: S::NAME, rows: S::rows() };
    let set = app.world().resource::<Settings>().sections.get(S::NAME).cloned();
    let mut wrong = Vec::new();
    if app.world().resource::<Sections>().0.iter().any(|known| known.name == S::NAME) {
        wrong.push(format!("settings `{}`: registered twice; a section belongs to one plugin", S::NAME));
    }
    let values = match set {
        Some(Json::Object(values)) => values,
        Some(other) => {
            wrong.push(format!("`{}` is {other}: it is a section, with its keys under it", S::NAME));
            Map::new()
        }
        None => Map::new(),
    };
    wrong.extend(section.wrong(&values));
    let read = if wrong.is_empty() { S::from_json(&values) } else { Ok(S::default()) };
    let read = read.unwrap_or_else(|error| {
        wrong.push(format!("settings {}: {error}", S::NAME));
        S::default()
    });
    // With every default filled in, so that a journal's header says all of it.
    let whole = Json::Object(read.to_json());
    let shown = section.rows.iter().filter(|row| row.in_ctx);
    let shown: BTreeMap<String, Json> =
        shown.map(|row| (row.name.to_owned(), whole.get(row.name).cloned().unwrap_or_default())).collect();
    let world = app.world_mut();
    if !shown.is_empty() {
        world.resource_mut::<ScriptSettings>().0.insert(S::NAME.to_owned(), shown);
    }
    world.resource_mut::<Settings>().sections.insert(S::NAME.to_owned(), whole);
    world.resource_mut::<Sections>().0.push(section);
    world.resource_mut::<BuildErrors>().0.extend(wrong);
    world.insert_resource(read);
}

/// Sections that were set and that no plugin has, as sentences.
pub(crate) fn unknown(world: &World) -> Vec<String> {
    let known: Vec<&str> = world
        .get_resource::<Sections>()
        .map_or_else(Vec::new, |all| all.0.iter().map(|one| one.name).collect());
    let set = &world.resource::<Settings>().sections;
    let unknown = set.keys().filter(|name| !known.contains(&name.as_str()));
    unknown
        .map(|name| {
            let near = nearest(name, known.iter().map(|known| (*known).to_owned()));
            format!("`{name}`: no plugin of this server has settings of that name{near}")
        })
        .collect()
}

/// Writes a plugin's settings: a struct with its defaults, and for each key its range, unit and meaning.
///
/// ```
/// # use kaos_kernel::prelude::*;
/// settings! {
///     /// The guestbook.
///     pub struct GuestbookSettings in "guestbook" {
///         /// How many pages there are.
///         pages: u32 = 10, in 1..=1000, unit "pages";
///         /// Whether guests may sign without a name.
///         nameless: bool = false, shown to scripts;
///     }
/// }
///
/// fn plugin(app: &mut App) {
///     app.settings::<GuestbookSettings>();
/// }
/// ```
/// In a system or handler they are the resource `GuestbookSettings`. In the configuration they are `guestbook.pages` and
/// `guestbook.nameless`: in the file, as flags, and as variables, and a key that is shown to scripts is
/// `ctx.settings.guestbook.nameless` there. Types are numbers, `bool`, `String` and lists of these.
#[macro_export]
macro_rules! settings {
    (
        $(#[doc = $about:literal])+
        $vis:vis struct $name:ident in $section:literal {
            $(
                $(#[doc = $doc:literal])+
                $field:ident : $type:ty = $default:expr
                $(, in $min:literal ..= $max:literal)?
                $(, unit $unit:literal)?
                $(, shown to $reader:ident)? ;
            )+
        }
    ) => {
        $(#[doc = $about])+
        #[derive($crate::prelude::Resource, Clone, PartialEq, Debug)]
        $vis struct $name {
            $($(#[doc = $doc])+ pub $field: $type,)+
        }

        impl Default for $name {
            fn default() -> Self {
                $name { $($field: $default,)+ }
            }
        }

        impl $crate::settings::section::Section for $name {
            const NAME: &'static str = $section;

            fn rows() -> Vec<$crate::settings::section::SettingRow> {
                let default = $name::default();
                vec![$($crate::settings::section::SettingRow {
                    name: stringify!($field),
                    doc: [$($doc),+].map(str::trim).join(" "),
                    unit: concat!($($unit)?),
                    default: $crate::settings::section::to_json(&default.$field),
                    range: [$(($min as f64, $max as f64))?].first().copied(),
                    in_ctx: [$(stringify!($reader))?].contains(&"scripts"),
                },)+]
            }

            fn to_json(&self) -> $crate::settings::section::Values {
                [$((stringify!($field).to_owned(), $crate::settings::section::to_json(&self.$field)),)+]
                    .into_iter()
                    .collect()
            }

            fn from_json(values: &$crate::settings::section::Values) -> Result<Self, String> {
                let mut read = $name::default();
                $(
                    if let Some(value) = values.get(stringify!($field)) {
                        read.$field = $crate::settings::section::from_json(stringify!($field), value)?;
                    }
                )+
                Ok(read)
            }
        }
    };
}
