//! `settings!`: defines a section once, in its owner's file.

/// Defines a section of the configuration: a struct with the type, default, range, unit and meaning of each key.
///
/// ```
/// # use kaos_kernel::prelude::*;
/// settings! {
///     /// The guestbook.
///     pub struct GuestbookSettings in "guestbook" {
///         /// How many pages there are.
///         pages: u32 = 10, in 1..=1000, unit "pages";
///         /// The page that is open, one of those that are there.
///         open: u32 = 1, within |book| 1..=book.pages;
///         /// Whether guests may sign without a name.
///         nameless: bool = false, shown to scripts;
///         /// The key of the cellar. null: nobody gets in.
///         key: Option<String> = None, kept secret;
///     }
/// }
///
/// fn plugin(app: &mut App) {
///     app.settings::<GuestbookSettings>();
/// }
/// ```
/// Systems and handlers read the section as the resource `GuestbookSettings`. Its keys are `guestbook.pages` and so on:
/// in the configuration file, as flags and as environment variables. The doc comments of the keys are shown everywhere
/// as their descriptions.
///
/// The default may be followed by any of these, in this order:
///
/// * `in 1..=1000`: the range of a number.
/// * `within |book| 1..=book.pages`: a range that depends on other keys of the section.
/// * `unit "ms"`: the unit of a number.
/// * `expects "a colour"`: the accepted values in words, for a type whose schema does not state them.
/// * `shown to scripts`: scripts see the value, as `ctx.settings.guestbook.nameless`.
/// * `kept secret`: the value is neither printed nor written into journals, so nothing inside the frame may depend on
///   it; a job may.
/// * `was "guestbook.leaves"`: a former name of the key. Setting it is refused with a sentence that states the present
///   name.
///
/// `in "guestbook", checked by path::to::function {` names a `fn(&GuestbookSettings) -> Vec<String>` for rules that
/// ranges cannot express. It returns one sentence per refused value, which begins with the key in back quotes.
///
/// The type of a key is `Clone`, `PartialEq`, `Debug`, `Serialize`, `Deserialize` and
/// [`JsonSchema`](schemars::JsonSchema): numbers, `bool`, text, enums without fields, `Option`s and lists of these.
#[macro_export]
macro_rules! settings {
    (
        $(#[doc = $about:literal])+
        $vis:vis struct $name:ident in $section:literal $(, checked by $check:path)? {
            $(
                $(#[doc = $doc:literal])+
                $field:ident : $type:ty = $default:expr
                $(, in $range:expr)?
                $(, within $within:expr)?
                $(, unit $unit:literal)?
                $(, expects $expects:literal)?
                $(, shown to $reader:ident)?
                $(, kept $kept:ident)?
                $(, was $was:literal)* ;
            )+
        }
    ) => {
        $(#[doc = $about])+
        #[derive($crate::prelude::Resource, Clone, PartialEq)]
        $vis struct $name {
            $($(#[doc = $doc])+ pub $field: $type,)+
        }

        impl Default for $name {
            fn default() -> Self {
                $name { $($field: $default,)+ }
            }
        }

        // Not derived, because a secret must not be printed.
        impl ::std::fmt::Debug for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.debug_struct(stringify!($name))
                    $(.field(stringify!($field), $crate::setting_shown!(self.$field $(, $kept)?)))+
                    .finish()
            }
        }

        impl $crate::settings::Section for $name {
            const NAME: &'static str = $section;

            fn rows() -> Vec<$crate::settings::SettingRow> {
                let default = $name::default();
                vec![$({
                    let mut row = $crate::settings::SettingRow::of::<$type>(
                        $section,
                        stringify!($field),
                        &[$($doc),+],
                        &default.$field,
                    );
                    $(row.set_range::<$type>($range);)?
                    $(row.set_dependent_range($crate::settings::dependent::<$name, $type>($within)(&default));)?
                    $(row.unit = $unit;)?
                    $(row.set_words($expects);)?
                    $(row.in_ctx = $crate::setting_flag!($reader);)?
                    $(row.is_secret = $crate::setting_flag!($kept);)?
                    row.was = &[$($was),*];
                    row
                },)+]
            }

            fn write(&self, to: &mut $crate::settings::Settings) {
                $($crate::settings::write_value(to, $section, stringify!($field), &self.$field);)+
            }

            fn read(from: &$crate::settings::Settings) -> Result<Self, Vec<String>> {
                let mut read = $name::default();
                let mistyped: Vec<&str> = [$(
                    $crate::settings::read_value(from, $section, stringify!($field), &mut read.$field),
                )+]
                .into_iter()
                .flatten()
                .collect();
                if mistyped.is_empty() {
                    Ok(read)
                } else {
                    Err($crate::settings::mistyped(&Self::rows(), &mistyped, from))
                }
            }

            fn check(&self) -> Vec<String> {
                let fixed: Vec<Option<String>> = vec![$(
                    $($crate::settings::out_of_range($section, stringify!($field), &self.$field, $range),)?
                )+];
                let wrong: Vec<String> = fixed.into_iter().flatten().collect();
                // A range that depends on a wrong value would only add a misleading sentence.
                if !wrong.is_empty() {
                    return wrong;
                }
                let depending: Vec<Option<String>> = vec![$(
                    $($crate::settings::out_of_range(
                        $section,
                        stringify!($field),
                        &self.$field,
                        $crate::settings::dependent::<$name, $type>($within)(self),
                    ),)?
                )+];
                let others: Vec<Vec<String>> = vec![$($check(self))?];
                depending.into_iter().flatten().chain(others.into_iter().flatten()).collect()
            }
        }
    };
}

/// For [`settings!`](crate::settings!): turns the words `scripts` and `secret` into true. Any other word does not
/// compile.
#[doc(hidden)]
#[macro_export]
macro_rules! setting_flag {
    (scripts) => {
        true
    };
    (secret) => {
        true
    };
}

/// For [`settings!`](crate::settings!): the value to print, or a placeholder for a secret.
#[doc(hidden)]
#[macro_export]
macro_rules! setting_shown {
    ($value:expr) => {
        &$value
    };
    ($value:expr, secret) => {
        &"(secret)"
    };
}
