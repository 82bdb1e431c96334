use std::path::Path;

use bytes::Bytes;
use plinth_client::Code;

use super::*;
use crate::{case::Pattern, schema::Schema};

const IDS: Ids = Ids { cluster: 1, member: 2, term: 3 };

fn put_response() -> MessageDescriptor {
    let protos = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../src/rpc/proto");
    let schema = Schema::load(&protos).expect("the protos compile");
    schema.method("KV/Put").expect("it is there").response
}

fn want(reply: Reply) -> Want {
    Want::only(reply)
}

fn check(text: &str, got: &[u8]) -> Result<(), String> {
    check_call(Some(&put_response()), &want(Reply::Ok(text.to_owned())), IDS, &Ok(Bytes::copy_from_slice(got)))
}

/// A header with cluster 1, member 2, revision 9, term 3.
const HEADER: &[u8] = &[0x0a, 8, 0x08, 1, 0x10, 2, 0x18, 9, 0x20, 3];

#[test]
fn answers_are_compared_whole_and_ids_are_filled_in() {
    assert_eq!(check("header { revision: 9 }", HEADER), Ok(()));
    assert!(check("header { revision: 8 }", HEADER).is_err(), "another revision");
    assert!(check("", HEADER).is_err(), "a header that nobody wants");
    assert!(check("header { revision: 9 } prev_kv {}", HEADER).is_err(), "a field is missing");
    let mut other_member = HEADER.to_vec();
    other_member[5] = 7;
    assert!(check("header { revision: 9 }", &other_member).is_err(), "another member");
}

#[test]
fn fields_that_the_protos_lack_are_differences() {
    let with_unknown = [HEADER, &[0x78, 1]].concat();
    assert!(check("header { revision: 9 }", &with_unknown).is_err());
}

#[test]
fn fields_may_be_left_open_but_not_left_out() {
    let open = |path: &str, got: &[u8]| {
        let mut want = want(Reply::Ok("header {}".to_owned()));
        want.nonzero.push(path.to_owned());
        check_call(Some(&put_response()), &want, IDS, &Ok(Bytes::copy_from_slice(got)))
    };
    assert_eq!(open("header.revision", HEADER), Ok(()));
    assert!(open("header.revision", &[0x0a, 6, 0x08, 1, 0x10, 2, 0x20, 3]).is_err(), "it is not there");
    assert!(open("header.nonsense", HEADER).is_err(), "there is no such field");
}

#[test]
fn fields_may_be_known_by_their_length_alone() {
    let protos = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../src/rpc/proto");
    let response =
        Schema::load(&protos).expect("the protos compile").method("Maintenance/Snapshot").expect("it is there");
    let length = |name: &str, bytes| {
        let mut want = want(Reply::Ok(String::new()));
        want.lengths.push((name.to_owned(), bytes));
        check_call(Some(&response.response), &want, IDS, &Ok(Bytes::from_static(b"\x1a\x03abc")))
    };
    assert_eq!(length("blob", 3), Ok(()));
    assert!(length("blob", 4).is_err() && length("nonsense", 3).is_err() && length("remaining_bytes", 0).is_err());
}

#[test]
fn statuses_are_compared_by_code_and_text() {
    let refused = |code, text: &str| {
        let want = want(Reply::Status { code: Code(3), message: Pattern::Exact("no".to_owned()) });
        check_call(Some(&put_response()), &want, IDS, &Err(Status::new(Code(code), text)))
    };
    assert_eq!(refused(3, "no"), Ok(()));
    assert!(refused(3, "no!").is_err() && refused(4, "no").is_err());
    assert!(check("header {}", b"\xff").is_err(), "an answer that is no message");
}

#[test]
fn http_answers_and_processes_are_compared_as_patterns() {
    assert_eq!(check_http(&want(Reply::Ok("200 a*".to_owned())), 200, "abc\n"), Ok(()));
    assert!(check_http(&want(Reply::Ok("200 a*".to_owned())), 404, "abc").is_err());
    let finished = |code| Finished { code, stdout: "OK\n".to_owned(), stderr: "why\n".to_owned() };
    assert_eq!(check_process(&want(Reply::Ok("OK".to_owned())), &finished(0)), Ok(()));
    assert!(check_process(&want(Reply::Ok("OK".to_owned())), &finished(1)).is_err());
    let exit = want(Reply::Exit { code: 1, stderr: Pattern::Glob("w*".to_owned()) });
    assert_eq!(check_process(&exit, &finished(1)), Ok(()));
    assert!(check_process(&exit, &finished(2)).is_err());
}
