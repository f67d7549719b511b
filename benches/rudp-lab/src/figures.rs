//! Figures: the median of several, and how one is written.

/// The median.
pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A figure from each of several rounds. The median counts; the least is shown as well, since other load on the machine
/// only adds.
#[derive(Default)]
pub(crate) struct Rounds(pub(crate) Vec<f64>);

impl Rounds {
    pub(crate) fn median(&self) -> f64 {
        median(self.0.clone())
    }

    pub(crate) fn least(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// The median and the least, for a table.
    pub(crate) fn text(&self) -> String {
        format!("{} ({})", short(self.median()), short(self.least()))
    }
}

/// A figure with three significant digits.
pub(crate) fn short(figure: f64) -> String {
    match figure.abs() {
        size if !size.is_finite() => "–".into(),
        size if size >= 99.95 => format!("{figure:.0}"),
        size if size >= 9.995 => format!("{figure:.1}"),
        0.0 => "0".into(),
        _ => format!("{figure:.2}"),
    }
}
