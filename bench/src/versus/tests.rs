//! What is run, and what is printed of it.

use super::*;
use crate::results::Machine;

fn names(words: &[&str], all: bool, is_quick: bool) -> Result<Vec<String>, Failure> {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    Ok(chosen(&words, all, is_quick)?.into_iter().map(|scenario| scenario.name).collect())
}

#[test]
fn scenarios_are_named_or_all_or_the_usual_ones() {
    assert_eq!(names(&["put-1", "list"], false, false).expect("known"), ["put-1", "list"]);
    assert_eq!(names(&[], false, true).expect("known"), DEFAULT);
    assert!(names(&[], true, false).expect("known").len() >= 10);
    assert_eq!(names(&["put-1"], true, false).expect_err("both").exit_code(), 2);
    let quick = chosen(&["put-8x64".to_owned()], false, true).expect("known");
    assert_eq!(quick[0].fill_shape().keys, QUICK_KEYS);
}

#[test]
fn a_run_without_a_comparison_has_a_head_and_clusters_say_so() {
    let method = serde_json::json!({
        "server_core": 0, "load_core": 1, "warmup_seconds": 1.0, "seconds": 2.5, "turns": 5, "repeats_max": 3, "seed": 1, "shape": null,
    });
    let machine = Machine { text: "two cores".to_owned(), facts: method.clone() };
    let document = |members| {
        let told = results::encode(&Told { members, to_leader: true, comparisons: Vec::new() });
        text_of(&Document::new("versus", machine.clone(), Vec::new(), method.clone(), told)).expect("its own")
    };
    assert!(
        document(1).starts_with("two cores\n") && document(1).contains("; 2.5 s after 1 s of warm-up, 5 turns each\n")
    );
    assert!(document(3).contains("\nclusters of 3 members") && document(3).ends_with("goes to its leader\n"));
}

#[test]
fn a_word_with_a_slash_or_the_extension_is_a_path() {
    assert!(is_path("./put-1") && is_path("mine.toml") && !is_path("put-1"));
}
