//! Prometheus's text format, version 0.0.4.

use std::fmt::{self, Write};

use plinth_base::metrics::HistogramSnapshot;

/// The type of a family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FamilyKind {
    /// Only goes up.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Buckets, sum and count.
    Histogram,
}

/// A sample's value.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Number {
    /// A count.
    U64(u64),
    /// A count that may be negative.
    I64(i64),
    /// A measure.
    F64(f64),
}

impl From<u64> for Number {
    fn from(value: u64) -> Self {
        Self::U64(value)
    }
}

impl From<i64> for Number {
    fn from(value: i64) -> Self {
        Self::I64(value)
    }
}

impl From<f64> for Number {
    fn from(value: f64) -> Self {
        Self::F64(value)
    }
}

impl From<bool> for Number {
    fn from(value: bool) -> Self {
        Self::U64(u64::from(value))
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::U64(value) => value.fmt(f),
            Self::I64(value) => value.fmt(f),
            Self::F64(value) => value.fmt(f),
        }
    }
}

/// Names and values of a sample's labels.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

/// A text in the making: families in any order, each whole before the next.
#[derive(Default)]
pub struct Exposition {
    families: Vec<(String, String)>,
}

impl Exposition {
    /// Begins a family; the samples that follow belong to it.
    pub fn family(&mut self, name: &str, kind: FamilyKind, help: &str) {
        let kind = match kind {
            FamilyKind::Counter => "counter",
            FamilyKind::Gauge => "gauge",
            FamilyKind::Histogram => "histogram",
        };
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        self.families.push((name.to_owned(), format!("# HELP {name} {help}\n# TYPE {name} {kind}\n")));
    }

    /// A family of one sample without labels.
    pub fn single(&mut self, name: &str, kind: FamilyKind, help: &str, value: impl Into<Number>) {
        self.family(name, kind, help);
        self.sample(&[], value);
    }

    /// A sample of the family begun last.
    pub fn sample(&mut self, labels: Labels<'_>, value: impl Into<Number>) {
        self.line("", labels, None, value.into());
    }

    /// A histogram of the family begun last. `units` of what was observed make 1 of what is shown: 10^9 for nanoseconds
    /// shown as seconds.
    pub fn histogram(&mut self, labels: Labels<'_>, histogram: &HistogramSnapshot, units: f64) {
        let mut cumulated = 0;
        for (index, count) in histogram.buckets.iter().enumerate() {
            cumulated += count;
            let bound = if index < histogram.bounds.count() {
                scaled(histogram.bounds.bound(index), units).to_string()
            } else {
                "+Inf".to_owned()
            };
            self.line("_bucket", labels, Some(&bound), Number::U64(cumulated));
        }
        self.line("_sum", labels, None, Number::F64(scaled(histogram.sum, units)));
        self.line("_count", labels, None, Number::U64(cumulated));
    }

    /// The text, families sorted by name.
    #[must_use]
    pub fn finish(mut self) -> String {
        self.families.sort_by(|a, b| a.0.cmp(&b.0));
        self.families.into_iter().map(|(_, text)| text).collect()
    }

    fn line(&mut self, suffix: &str, labels: Labels<'_>, bound: Option<&str>, value: Number) {
        let (name, text) = self.families.last_mut().expect("a family was begun");
        text.push_str(name);
        text.push_str(suffix);
        let bound = bound.map(|bound| ("le", bound));
        for (index, (label, value)) in labels.iter().copied().chain(bound).enumerate() {
            text.push(if index == 0 { '{' } else { ',' });
            text.push_str(label);
            text.push_str("=\"");
            push_escaped(text, value);
            text.push('"');
        }
        if !labels.is_empty() || bound.is_some() {
            text.push('}');
        }
        writeln!(text, " {value}").expect("writing to a String can't fail");
    }
}

#[expect(clippy::cast_precision_loss, reason = "a measure: 53 bits are enough")]
fn scaled(value: u64, units: f64) -> f64 {
    value as f64 / units
}

fn push_escaped(text: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            c => text.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use plinth_base::metrics::{Bounds, FLUSH_NS, Histogram};

    use super::*;

    #[test]
    fn families_come_sorted_with_help_and_type() {
        let mut out = Exposition::default();
        out.single("b_total", FamilyKind::Counter, "Two\nlines.", 3_u64);
        out.family("a", FamilyKind::Gauge, "One.");
        out.sample(&[("x", "q\"\\\n"), ("y", "2")], -1_i64);
        assert_eq!(
            out.finish(),
            "# HELP a One.\n# TYPE a gauge\na{x=\"q\\\"\\\\\\n\",y=\"2\"} -1\n\
             # HELP b_total Two\\nlines.\n# TYPE b_total counter\nb_total 3\n"
        );
    }

    #[test]
    fn histograms_are_cumulated_and_scaled() {
        let histogram = Histogram::new(Bounds::Doubling { first: 1_000_000, count: 2 });
        for value in [500_000, 1_500_000, 9_000_000] {
            histogram.observe(value);
        }
        let mut out = Exposition::default();
        out.family("h", FamilyKind::Histogram, "H.");
        out.histogram(&[("l", "v")], &histogram.snapshot(), 1e9);
        assert_eq!(
            out.finish(),
            "# HELP h H.\n# TYPE h histogram\nh_bucket{l=\"v\",le=\"0.001\"} 1\nh_bucket{l=\"v\",le=\"0.002\"} 2\n\
             h_bucket{l=\"v\",le=\"+Inf\"} 3\nh_sum{l=\"v\"} 0.011\nh_count{l=\"v\"} 3\n"
        );
    }

    #[test]
    fn flush_buckets_have_etcds_bounds() {
        let mut out = Exposition::default();
        out.family("h", FamilyKind::Histogram, "H.");
        out.histogram(&[], &Histogram::new(FLUSH_NS).snapshot(), 1e9);
        let text = out.finish();
        let bounds: Vec<_> = text.split("le=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert_eq!(
            bounds,
            [
                "0.001", "0.002", "0.004", "0.008", "0.016", "0.032", "0.064", "0.128", "0.256", "0.512", "1.024",
                "2.048", "4.096", "8.192", "+Inf",
            ]
        );
    }
}
