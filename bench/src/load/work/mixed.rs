//! Several kinds of requests, each with its share.

use std::time::Instant;

use plinth_base::Prng;

use super::{Ask, Fate, Work};

/// A part, its share, and the number of its first kind.
type Part = (u64, usize, Box<dyn Work>);

/// Chooses for each request whose turn it is.
pub struct Mixed {
    prng: Prng,
    parts: Vec<Part>,
    total: u64,
}

impl Mixed {
    /// Shares are in proportion to the weights.
    pub fn new(prng: Prng, parts: Vec<(u64, Box<dyn Work>)>) -> Self {
        let (mut first, mut numbered) = (0, Vec::new());
        for (weight, work) in parts {
            let kinds = work.kinds().len();
            numbered.push((weight, first, work));
            first += kinds;
        }
        let total = numbered.iter().map(|(weight, ..)| weight).sum();
        Self { prng, parts: numbered, total }
    }

    /// Who made a request, and what it is to them.
    fn of(&mut self, ask: &Ask) -> (Ask, &mut dyn Work) {
        let part = self.parts.iter_mut().rev().find(|(_, first, _)| ask.kind >= *first);
        let (_, first, work) = part.expect("the first part begins with kind 0");
        (Ask { kind: ask.kind - *first, ..*ask }, &mut **work)
    }
}

impl Work for Mixed {
    fn kinds(&self) -> Vec<&'static str> {
        self.parts.iter().flat_map(|(.., work)| work.kinds()).collect()
    }

    fn ask(&mut self, began: Instant, body: &mut Vec<u8>) -> Ask {
        let mut place = self.prng.below(self.total);
        for (weight, first, work) in &mut self.parts {
            if place < *weight {
                let ask = work.ask(began, body);
                return Ask { kind: ask.kind + *first, ..ask };
            }
            place -= *weight;
        }
        unreachable!("the weights add up to their sum")
    }

    fn answered(&mut self, ask: &Ask, message: &[u8]) -> Result<Fate, String> {
        let (ask, work) = self.of(ask);
        work.answered(&ask, message)
    }

    fn failed(&mut self, ask: &Ask) {
        let (ask, work) = self.of(ask);
        work.failed(&ask);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Named(&'static str);

    impl Work for Named {
        fn kinds(&self) -> Vec<&'static str> {
            vec![self.0, self.0]
        }

        fn ask(&mut self, _began: Instant, _body: &mut Vec<u8>) -> Ask {
            Ask { kind: 1, path: self.0, ..Ask::default() }
        }

        fn answered(&mut self, ask: &Ask, _message: &[u8]) -> Result<Fate, String> {
            if ask.kind == 1 && ask.path == self.0 { Ok(Fate::Done) } else { Err(self.0.to_owned()) }
        }
    }

    #[test]
    fn each_part_has_its_share_and_gets_its_own_answers() {
        let part = |name, weight| (weight, Box::new(Named(name)) as Box<dyn Work>);
        let mut mixed = Mixed::new(Prng::new(1), vec![part("a", 1), part("b", 9)]);
        assert_eq!(mixed.kinds(), ["a", "a", "b", "b"]);
        let mut counts = [0; 4];
        for _ in 0..10_000 {
            let ask = mixed.ask(Instant::now(), &mut Vec::new());
            counts[ask.kind] += 1;
            assert_eq!(mixed.answered(&ask, &[]), Ok(Fate::Done));
        }
        assert!((900..1100).contains(&counts[1]) && counts[1] + counts[3] == 10_000, "{counts:?}");
    }
}
