//! Turns in pairs: A, B, A, B, ... A pair is the smallest thing that counts: both its turns ran on the same machine minutes apart.

use crate::failure::Failure;

/// The turns of both sides.
#[derive(Debug)]
pub struct Pairs<T> {
    /// A and B of each pair.
    pub turns: Vec<[T; 2]>,
    /// Pairs that were thrown away because something got in the way.
    pub repeated: usize,
    /// Pairs that something got in the way of to the end.
    pub disturbed: usize,
}

/// Takes `count` pairs; one with a turn that has `trouble` is taken again, whole, up to `repeats_max` times.
pub fn take<T>(
    title: &str,
    count: usize,
    repeats_max: usize,
    trouble: impl Fn(&T) -> Option<String>,
    mut turn: impl FnMut(usize) -> Result<T, Failure>,
) -> Result<Pairs<T>, Failure> {
    let mut pairs = Pairs { turns: Vec::with_capacity(count), repeated: 0, disturbed: 0 };
    for number in 1..=count {
        eprintln!("{title}: pair {number} of {count}");
        let mut repeats = 0;
        let pair = loop {
            let pair = [turn(0)?, turn(1)?];
            let Some(why) = pair.iter().find_map(&trouble) else { break pair };
            let what = format!("{title}: pair {number} was disturbed ({why})");
            if repeats == repeats_max {
                eprintln!("{what} and counts nevertheless");
                pairs.disturbed += 1;
                break pair;
            }
            eprintln!("{what}: both turns again");
            repeats += 1;
            pairs.repeated += 1;
        };
        pairs.turns.push(pair);
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Turns are numbered as they are taken; those in `disturbed` were.
    fn taken(count: usize, repeats_max: usize, disturbed: &[usize]) -> (Pairs<usize>, Vec<usize>) {
        let mut sides = Vec::new();
        let trouble = |turn: &usize| disturbed.contains(turn).then(|| "steal 2.1 %".to_owned());
        let pairs = take("test", count, repeats_max, trouble, |side| {
            sides.push(side);
            Ok(sides.len() - 1)
        });
        (pairs.expect("no turn fails"), sides)
    }

    #[test]
    fn sides_take_turns_and_a_disturbed_pair_is_taken_again_whole() {
        let (pairs, sides) = taken(2, 3, &[]);
        assert_eq!((pairs.turns, pairs.repeated, sides), (vec![[0, 1], [2, 3]], 0, vec![0, 1, 0, 1]));
        // B of the first pair, then A of its repetition.
        let (pairs, sides) = taken(2, 3, &[1, 2]);
        assert_eq!((pairs.turns, pairs.repeated, pairs.disturbed), (vec![[4, 5], [6, 7]], 2, 0));
        assert_eq!(sides, [0, 1, 0, 1, 0, 1, 0, 1]);
    }

    #[test]
    fn what_stays_disturbed_is_counted_so() {
        let all: Vec<usize> = (0..100).collect();
        let (pairs, _) = taken(2, 1, &all);
        assert_eq!((pairs.turns, pairs.repeated, pairs.disturbed), (vec![[2, 3], [6, 7]], 2, 2));
        let failed = take("test", 1, 1, |_: &()| unreachable!(), |_| Err(Failure::Trouble("gone".to_owned())));
        assert_eq!(failed.expect_err("a turn failed").to_string(), "gone");
    }
}
