//! What the parts gave, as it is printed and kept.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Part, aim, aim::Aim};
use crate::{
    failure::Failure,
    lab,
    results::{self, Document},
};

/// A document's `results`.
#[derive(Default, Debug, Serialize, Deserialize)]
pub struct Told {
    parts: Vec<ToldPart>,
    aims: Vec<Aim>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ToldPart {
    name: String,
    /// Its tables and lines, or why there are none. Parts are too different for tables made of their figures.
    text: String,
    /// The same and more, for programs.
    figures: Value,
}

impl Told {
    /// Adds what a part gave; gives its text.
    pub fn add(&mut self, name: &str, outcome: Result<Part, Failure>) -> String {
        let (text, figures, aims) = match outcome {
            Ok(Part { text, json, aims }) => (text, json, aims),
            Err(failure) => (format!("FAILED: {failure}"), Value::Null, Vec::new()),
        };
        let part = ToldPart { name: name.to_owned(), text, figures };
        let text = part.text();
        self.parts.push(part);
        self.aims.extend(aims);
        text
    }

    /// All aims so far.
    pub fn aims_text(&self) -> String {
        format!("\n## aims\n\n{}", aim::to_text(&self.aims))
    }
}

impl ToldPart {
    fn text(&self) -> String {
        format!("\n## {}\n\n{}\n", self.name, self.text.trim_end())
    }
}

/// A whole run as it was printed.
pub fn text_of(document: &Document) -> Result<String, Failure> {
    let told: Told = results::decode(&document.results, "results")?;
    let parts: String = told.parts.iter().map(ToldPart::text).collect();
    Ok(format!("{}{parts}{}", lab::head(document)?, told.aims_text()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_kept_is_printed_as_it_was() {
        let mut told = Told::default();
        let part = Part { text: "a table\n".to_owned(), json: json!([1]), aims: vec![Aim::at_most("x", 1.0, 2.0)] };
        let printed = told.add("put", Ok(part)) + &told.add("idle", Err(Failure::Trouble("no server".to_owned())));
        assert_eq!(printed, "\n## put\n\na table\n\n## idle\n\nFAILED: no server\n");
        let kept: Told = results::decode(&results::encode(&told), "results").expect("its own");
        let again: String = kept.parts.iter().map(ToldPart::text).collect();
        assert_eq!((again, kept.aims_text()), (printed, told.aims_text()));
    }
}
