//! Objects of one resource, and the revision at which each was last seen.

use std::collections::HashMap;

use plinth_base::Prng;

/// Those that are there.
#[derive(Default, Debug)]
pub struct Objects {
    numbers: Vec<u64>,
    /// Of each its place in `numbers`, and its revision.
    known: HashMap<u64, (usize, i64)>,
    next: u64,
}

impl Objects {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.numbers.len()
    }

    /// A number that no object has had.
    pub fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// One of them, and its revision; number 0 if there is none.
    pub fn any(&self, prng: &mut Prng) -> (u64, i64) {
        if self.numbers.is_empty() {
            return (0, 0);
        }
        let number = self.numbers[prng.index(self.numbers.len())];
        (number, self.known[&number].1)
    }

    /// The same, and it is gone.
    pub fn take_any(&mut self, prng: &mut Prng) -> (u64, i64) {
        let (number, revision) = self.any(prng);
        if let Some((place, _)) = self.known.remove(&number) {
            self.numbers.swap_remove(place);
            if let Some(moved) = self.numbers.get(place) {
                self.known.entry(*moved).and_modify(|(its_place, _)| *its_place = place);
            }
        }
        (number, revision)
    }

    /// One is there, and has this revision.
    pub fn set(&mut self, number: u64, revision: i64) {
        let place = self.numbers.len();
        let known = self.known.entry(number).or_insert((place, revision));
        if known.0 == place {
            self.numbers.push(number);
        }
        self.learn(number, revision);
    }

    /// If it is still there, it has this revision: the newest counts. 0: it isn't on the server.
    pub fn learn(&mut self, number: u64, revision: i64) {
        if let Some((_, known)) = self.known.get_mut(&number) {
            *known = if revision == 0 { 0 } else { revision.max(*known) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_gone_and_the_others_keep_their_revisions() {
        let (mut objects, mut prng) = (Objects::default(), Prng::new(1));
        for _ in 0..10 {
            let number = objects.fresh();
            objects.set(number, number as i64 * 10);
        }
        objects.learn(3, 35);
        objects.learn(3, 31);
        let mut taken = Vec::new();
        while objects.count() > 0 {
            let (number, revision) = objects.take_any(&mut prng);
            assert_eq!(revision, if number == 3 { 35 } else { number as i64 * 10 });
            taken.push(number);
        }
        taken.sort_unstable();
        assert_eq!(taken, (1..=10).collect::<Vec<_>>());
        assert_eq!(objects.any(&mut prng), (0, 0));
        objects.learn(3, 99);
        assert_eq!(objects.count(), 0, "what is gone stays gone");
    }
}
