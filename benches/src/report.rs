//! Figures over several runs: minimum, median, maximum; as a table or as JSON.

use serde::Serialize;

/// A figure over several runs.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Figure {
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
}

impl Figure {
    /// The figure of at least one value; zeros of none.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(0.0);
        let last = values.len().saturating_sub(1);
        Self { min: at(0), median: at(values.len() / 2), max: at(last) }
    }
}

/// A row of a table.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    #[serde(flatten)]
    pub(crate) figure: Figure,
    /// The median against that of the row that all are compared with.
    pub(crate) ratio: Option<f64>,
    pub(crate) note: String,
}

/// A table of one comparison.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Table {
    pub(crate) title: String,
    pub(crate) rows: Vec<Row>,
}

/// Everything that one call measured, with what was compared.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) versions: Vec<(&'static str, String)>,
    pub(crate) rounds: usize,
    pub(crate) tables: Vec<Table>,
}

impl Report {
    pub(crate) fn new(rounds: usize, tables: Vec<Table>) -> Self {
        Self { versions: versions(), rounds, tables }
    }

    /// The report for people.
    pub(crate) fn to_text(&self) -> String {
        let mut out = String::new();
        let versions: Vec<_> =
            self.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        out += &format!("{} rounds; {}\n", self.rounds, versions.join(", "));
        for table in &self.tables {
            out += &format!("\n{}\n", table.title);
            out += &format!(
                "  {:<34} {:>10} {:>10} {:>10}  {:<14} {:>6}\n",
                "", "min", "median", "max", "", "ratio"
            );
            for row in &table.rows {
                let ratio = row.ratio.map(|ratio| format!("{ratio:.3}")).unwrap_or_default();
                let Figure { min, median, max } = row.figure;
                out += &format!(
                    "  {:<34} {min:>10.1} {median:>10.1} {max:>10.1}  {:<14} {ratio:>6}  {}\n",
                    row.name, row.unit, row.note
                );
            }
        }
        out
    }
}

/// Versions of what is compared, from the lock file that built this program.
fn versions() -> Vec<(&'static str, String)> {
    const LOCK: &str = include_str!("../../Cargo.lock");
    let version = |name: &str| {
        let mut lines = LOCK.lines();
        let wanted = format!("name = \"{name}\"");
        lines.find(|line| *line == wanted)?;
        let version = lines.next()?.strip_prefix("version = \"")?;
        Some(version.trim_end_matches('"').to_owned())
    };
    ["spanweave", "tracing-opentelemetry", "opentelemetry_sdk", "opentelemetry-otlp", "fastrace"]
        .into_iter()
        .filter_map(|name| Some((name, version(name)?)))
        .collect()
}
