//! Documents go through a file unchanged, and everything else is refused with one line that says what to do.

use serde_json::json;

use super::*;

fn document() -> Document {
    let machine = Machine { text: "two cores".to_owned(), facts: json!({ "cores": 2 }) };
    let program = ProgramFacts { name: "plinth".to_owned(), version: "0.1.0".to_owned(), path: "/p".to_owned() };
    Document::new("versus", machine, vec![program], json!({ "turns": 5 }), json!([1.25, null]))
}

fn refused(text: &str) -> String {
    parse(text.as_bytes()).expect_err("it is none")
}

#[test]
fn a_document_goes_through_a_file_and_replaces_the_one_before() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let path = folder.path().join("deep/er/results.json");
    expect_writable(&path).expect("the folders are made");
    write(&path, &Document { command: "load".to_owned(), ..document() }).expect("writable");
    let document = document();
    write(&path, &document).expect("writable");
    assert_eq!(read(&path).expect("it was just written"), document);
    let left: Vec<_> = fs::read_dir(path.parent().expect("it has one")).expect("there").collect();
    assert_eq!(left.len(), 1, "no temporary file is left: {left:?}");
    assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o444, 0o444, "others may read it");
}

#[test]
fn a_place_that_takes_no_file_is_found_before_the_work() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let is_folder = expect_writable(folder.path()).expect_err("a directory");
    assert!(is_folder.to_string().ends_with("is a directory: results go to a file"), "{is_folder}");
    let file = folder.path().join("file");
    fs::write(&file, b"").expect("writable");
    assert!(expect_writable(&file.join("results.json")).is_err(), "a file is no folder");
}

#[test]
fn what_is_no_results_file_is_refused() {
    assert_eq!(refused(" \n"), "is empty: make the results again");
    assert!(refused("fio-3.33").starts_with("is no results file of plinth-bench: no JSON"));
    assert!(
        refused("{\"fio version\": \"fio-3.33\"}").starts_with("is no results file of plinth-bench: its \"format\"")
    );
    assert!(refused("[1, 2]").starts_with("is no results file"));
    assert!(parse(&[0xff, 0xfe, b'{']).is_err(), "bytes that are no text");
    let missing = Path::new("/nowhere/results.json");
    assert!(read(missing).expect_err("it is not there").to_string().starts_with("reading /nowhere/results.json: "));
}

#[test]
fn wherever_a_file_is_cut_off_it_is_refused() {
    let whole = document().to_json();
    for end in 0..whole.len() {
        let why = parse(&whole.as_bytes()[..end]).expect_err("it is cut off");
        assert!(why.ends_with("make the results again"), "{end}: {why}");
    }
}

#[test]
fn another_version_is_named_and_what_to_do_about_it() {
    let other = document().to_json().replace("results 2", "results 1");
    let why = refused(&other);
    assert!(why.starts_with("has results of version 1, and plinth-bench "), "{why}");
    assert!(why.contains(" reads version 2: make the results again, or read them with"), "{why}");
}

#[test]
fn a_document_that_lacks_something_says_what() {
    let why = refused("{\"format\": \"plinth-bench results 2\", \"command\": \"versus\"}");
    assert!(why.contains("missing field `made`"), "{why}");
    let damaged = decode::<Vec<u64>>(&json!([1, "x"]), "results").expect_err("no number").to_string();
    assert!(damaged.starts_with("these results are damaged, ") && damaged.ends_with(": make them again"), "{damaged}");
}
