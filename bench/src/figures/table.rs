//! Figures of two servers side by side: whatever a part measures, turn by turn, as a table with ratios.

use serde_json::{Map, Value, json};

use crate::{
    failure::Failure,
    lab::Lab,
    load::Outcome,
    procfs::Disturbance,
    server::{Kind, Program},
    stats::{Ratio, median},
};

/// What one turn of one server gave.
#[derive(Default, Debug)]
pub struct Sheet {
    /// Name, digits that it is told with, value. What can't be told is no number.
    values: Vec<(String, usize, f64)>,
    runs: usize,
    disturbed: usize,
}

impl Sheet {
    /// One more figure.
    pub fn add(&mut self, name: impl Into<String>, digits: usize, value: f64) {
        self.values.push((name.into(), digits, value));
    }

    /// Notes how far a run was disturbed.
    pub fn note(&mut self, disturbance: Disturbance) {
        self.runs += 1;
        self.disturbed += usize::from(disturbance.is_too_much());
    }

    /// Rate, p99 and p99.9 of a run of puts. `how` tells it from the turn's other runs.
    pub fn add_puts(&mut self, how: &str, puts: &Outcome) {
        self.note(puts.disturbance);
        self.add(format!("puts per second{how}"), 0, puts.per_second());
        self.add(format!("put p99{how}, µs"), 0, puts.latencies.quantile_us(0.99).unwrap_or(f64::NAN));
        self.add(format!("put p99.9{how}, µs"), 0, puts.latencies.quantile_us(0.999).unwrap_or(f64::NAN));
    }

    fn value(&self, name: &str) -> f64 {
        self.values.iter().find(|(known, ..)| known == name).map_or(f64::NAN, |(.., value)| *value)
    }
}

/// The turns of both servers.
#[derive(Debug)]
pub struct Table {
    title: &'static str,
    plinth: Vec<Sheet>,
    etcd: Vec<Sheet>,
}

/// Measures plinth, etcd, plinth, etcd, ...
pub fn in_turns(
    lab: &Lab,
    title: &'static str,
    mut measure: impl FnMut(&Program) -> Result<Sheet, Failure>,
) -> Result<Table, Failure> {
    take_turns(lab, title, |table| {
        table.plinth.push(measure(&lab.plinth)?);
        table.etcd.push(measure(&lab.etcd()?)?);
        Ok(())
    })
}

/// The same of plinth alone, for what its peer doesn't have.
pub fn in_turns_alone(
    lab: &Lab,
    title: &'static str,
    mut measure: impl FnMut(&Program) -> Result<Sheet, Failure>,
) -> Result<Table, Failure> {
    take_turns(lab, title, |table| {
        table.plinth.push(measure(&lab.plinth)?);
        Ok(())
    })
}

fn take_turns(
    lab: &Lab,
    title: &'static str,
    mut turn: impl FnMut(&mut Table) -> Result<(), Failure>,
) -> Result<Table, Failure> {
    let mut table = Table { title, plinth: Vec::new(), etcd: Vec::new() };
    for number in 1..=lab.method.turns {
        eprintln!("{title}: turn {number} of {}", lab.method.turns);
        turn(&mut table)?;
    }
    Ok(table)
}

impl Table {
    /// The median of a server's turns; no number if there is no such figure.
    pub fn median(&self, kind: Kind, name: &str) -> f64 {
        median(&values(self.sheets(kind), name)).unwrap_or(f64::NAN)
    }

    fn sheets(&self, kind: Kind) -> &[Sheet] {
        match kind {
            Kind::Plinth => &self.plinth,
            Kind::Etcd => &self.etcd,
        }
    }

    /// The largest of a server's turns.
    pub fn largest(&self, kind: Kind, name: &str) -> f64 {
        values(self.sheets(kind), name).into_iter().fold(f64::NAN, f64::max)
    }

    /// plinth's figure in parts of etcd's: the median over the pairs.
    pub fn ratio(&self, name: &str) -> f64 {
        Ratio::of(&values(&self.plinth, name), &values(&self.etcd, name)).map_or(f64::NAN, |ratio| ratio.median)
    }

    /// In Markdown.
    pub fn to_text(&self) -> String {
        let mut text = format!("| {} | plinth | etcd | ratio (min to max) |\n|---|---|---|---|\n", self.title);
        for (name, digits, _) in self.plinth.first().into_iter().flat_map(|sheet| &sheet.values) {
            let told = |kind| match self.median(kind, name) {
                value if value.is_finite() => format!("{value:.digits$}"),
                _ => "-".to_owned(),
            };
            let ratio = Ratio::of(&values(&self.plinth, name), &values(&self.etcd, name));
            let ratio = ratio.filter(|ratio| ratio.median.is_finite());
            let ratio = ratio.map_or_else(|| "-".to_owned(), |ratio| ratio.to_string());
            text += &format!("| {name} | {} | {} | {ratio} |\n", told(Kind::Plinth), told(Kind::Etcd));
        }
        let sum = |of: fn(&Sheet) -> usize| self.plinth.iter().chain(&self.etcd).map(of).sum::<usize>();
        let (disturbed, runs) = (sum(|sheet| sheet.disturbed), sum(|sheet| sheet.runs));
        if disturbed > 0 {
            text += &format!("\nDISTURBED: {disturbed} of {runs} runs\n");
        }
        text
    }

    /// Every turn.
    pub fn to_json(&self) -> Value {
        let sheet = |sheet: &Sheet| {
            let values: Map<String, Value> =
                sheet.values.iter().map(|(name, _, value)| (name.clone(), json!(value))).collect();
            json!({ "figures": values, "runs": sheet.runs, "disturbed": sheet.disturbed })
        };
        let all = |sheets: &[Sheet]| sheets.iter().map(sheet).collect::<Vec<_>>();
        json!({ "plinth": all(&self.plinth), "etcd": all(&self.etcd) })
    }
}

fn values(sheets: &[Sheet], name: &str) -> Vec<f64> {
    sheets.iter().map(|sheet| sheet.value(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sheet(rate: f64, memory: f64) -> Sheet {
        let mut sheet = Sheet::default();
        sheet.add("rate", 0, rate);
        sheet.add("memory, MiB", 1, memory);
        sheet
    }

    #[test]
    fn medians_stand_beside_each_other_and_what_is_no_number_is_a_dash() {
        let mut table = Table {
            title: "put",
            plinth: vec![sheet(10.0, 1.0), sheet(30.0, 1.0), sheet(20.0, 1.0)],
            etcd: vec![sheet(5.0, f64::NAN), sheet(10.0, f64::NAN), sheet(5.0, f64::NAN)],
        };
        assert_eq!((table.median(Kind::Plinth, "rate"), table.ratio("rate")), (20.0, 3.0));
        assert_eq!(table.largest(Kind::Etcd, "rate"), 10.0);
        assert!(table.median(Kind::Etcd, "another").is_nan());
        let text = "| put | plinth | etcd | ratio (min to max) |\n|---|---|---|---|\n\
                    | rate | 20 | 5 | 3.000 (2.000 to 4.000) |\n| memory, MiB | 1.0 | - | - |\n";
        assert_eq!(table.to_text(), text);
        table.etcd[0].note(Disturbance { steal_percent: 50.0, foreign_percent: 0.0 });
        assert!(table.to_text().ends_with("\nDISTURBED: 1 of 1 runs\n"));
    }
}
