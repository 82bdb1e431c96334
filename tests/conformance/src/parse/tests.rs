use super::*;

fn parse(text: &str) -> Vec<Case> {
    parse_cases("x.txt", text).expect("the text is well formed")
}

#[test]
fn a_case_has_rows_steps_and_deviations() {
    let cases = parse(
        "# comment\ncase one\nrows a.b c.d\n\nmeta hasleader \"true\"\nKV/Put key: \"a\"\n  value: \"1\"\n-> header {}\n\
         nonzero x\n3.5 a.b !! NotFound \"gone\"\n",
    );
    let [case] = &cases[..] else { panic!("one case, not {cases:?}") };
    assert_eq!((case.name.as_str(), case.place.as_str()), ("one", "x.txt:2"));
    assert_eq!(case.rows, ["a.b", "c.d"]);
    let [step] = &case.steps[..] else { panic!("one step, not {:?}", case.steps) };
    assert!(matches!(&step.action, Action::Call { text, .. } if text == "key: \"a\"\nvalue: \"1\""));
    assert_eq!(step.metadata, [("hasleader".to_owned(), b"true".to_vec())]);
    assert_eq!(step.want.nonzero, ["x"]);
    assert!(step.deviation.as_ref().is_some_and(|deviation| deviation.row == "a.b"));
}

#[test]
fn a_step_may_be_done_often_and_leave_bytes_open() {
    let cases = parse("case one\nrows a\ntimes 3\nrecv w\n-> created: true\nlength blob 32\nrestart\n");
    let [receive, restart] = &cases[0].steps[..] else { panic!("two steps, not {:?}", cases[0].steps) };
    assert_eq!((receive.times, restart.times), (3, 1));
    assert_eq!(receive.want.lengths, [("blob".to_owned(), 32)]);
    assert!(matches!(restart.action, Action::Restart));
}

#[test]
fn a_plain_etcdctl_step_runs_with_each_version() {
    let cases = parse("case one\nrows a\netcdctl put \"a b\" 1\n<< in\n-> OK\n");
    assert_eq!(cases[0].steps.len(), ETCDCTL_VERSIONS.len());
    let Action::Etcdctl { args, stdin, .. } = &cases[0].steps[1].action else { panic!("an etcdctl step") };
    assert_eq!(args, &["put", "a b", "1"]);
    assert_eq!(stdin, "in\n");
}

#[test]
fn steps_without_answer_and_unknown_lines_are_refused() {
    for text in
        ["case a\nKV/Put\ncase b\n", "case a\nnonsense\n", "KV/Put\n-> x\n", "case a\nraw KV/Put \"\\q\"\n-> x\n"]
    {
        assert!(parse_cases("x.txt", text).is_err(), "{text:?}");
    }
}
