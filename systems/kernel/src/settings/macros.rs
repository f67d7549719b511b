//! `settings!`: a section written once, in its owner's file.

/// Writes a section of the configuration: a struct with its defaults, and of each key its type, range, unit and meaning.
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
/// In a system or handler it is the resource `GuestbookSettings`. In the configuration its keys are `guestbook.pages` and so
/// on: in the file, as flags, as variables. The comments above keys are what people read of them, everywhere.
///
/// Behind the default stands, in this order and each only where it is needed:
///
/// * `in 1..=1000`: the range, for numbers.
/// * `within |book| 1..=book.pages`: a range that depends on other keys of the section.
/// * `unit "ms"`: what a number counts.
/// * `expects "a colour"`: what the key takes, for a type whose schema does not say it.
/// * `shown to scripts`: scripts see it, as `ctx.settings.guestbook.nameless`.
/// * `kept secret`: neither printed nor written into journals, so nothing inside the frame may depend on it; a job may.
/// * `was "guestbook.leaves"`: the key's former name, which is refused with the one of today.
///
/// `in "guestbook", checked by path::to::function {` names a `fn(&GuestbookSettings) -> Vec<String>` for what ranges do not
/// say: a sentence for each value that cannot be, beginning with its key in back quotes.
///
/// A type is anything that is `Serialize`, `Deserialize` and [`JsonSchema`](schemars::JsonSchema): numbers, `bool`, text,
/// enums without fields, `Option`s and lists of these.
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

        // By hand, since a secret is not printed.
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
                    $(row.expects = $expects.to_owned();)?
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
                let fits = [$((
                    stringify!($field),
                    $crate::settings::read_value(from, $section, stringify!($field), &mut read.$field),
                ),)+];
                let wrong: Vec<&str> = fits.iter().filter(|(_, fits)| !fits).map(|(name, _)| *name).collect();
                if wrong.is_empty() {
                    Ok(read)
                } else {
                    Err($crate::settings::mistyped(&Self::rows(), &wrong, from))
                }
            }

            fn check(&self) -> Vec<String> {
                let fixed: Vec<Option<String>> = vec![$(
                    $($crate::settings::out_of_range($section, stringify!($field), &self.$field, $range),)?
                )+];
                let wrong: Vec<String> = fixed.into_iter().flatten().collect();
                // What depends on a value that cannot be is no news.
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

/// For [`settings!`](crate::settings!): the words that a row may have, so that a mistyped one does not compile.
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

/// For [`settings!`](crate::settings!): a value as it may be printed.
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
