//! Whether what came back is what was wanted. Each failure says both.

use plinth_client::Status;
use prost_reflect::{DynamicMessage, MessageDescriptor, ReflectMessage, Value};

use crate::{
    case::{Reply, Want, glob},
    process::Finished,
    schema,
};

/// Ids that stand in the header of every answer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ids {
    pub cluster: u64,
    pub member: u64,
    pub term: u64,
}

/// A gRPC answer against what was wanted. A top-level header needs only the revision: the ids are the server's. Headers further
/// inside are compared as they are.
pub(crate) fn check_call(
    response: Option<&MessageDescriptor>,
    want: &Want,
    ids: Ids,
    got: &Result<bytes::Bytes, Status>,
) -> Result<(), String> {
    match (&want.reply, got) {
        (Reply::Ok(text), Ok(bytes)) => {
            let descriptor = response.ok_or("an answer can't be read without its type")?;
            let mut wanted = schema::parse(descriptor, text).map_err(|error| format!("the case is wrong: {error}"))?;
            fill_header(&mut wanted, ids);
            check_message(want, wanted, schema::decode(descriptor, bytes.clone())?)
        }
        (Reply::Ok(text), Err(status)) => Err(format!("want: {text}\ngot:  {status}")),
        (Reply::Status { code, message }, Err(status)) if *code == status.code && message.matches(&status.message) => {
            Ok(())
        }
        (Reply::Status { code, message }, Err(status)) => Err(format!("want: {code} {message:?}\ngot:  {status}")),
        (Reply::Status { code, message }, Ok(bytes)) => {
            let got = response.map(|descriptor| schema::decode(descriptor, bytes.clone()));
            let got = got.transpose()?.map_or_else(String::new, |message| schema::print(&message));
            Err(format!("want: {code} {message:?}\ngot:  {got}"))
        }
        (Reply::Exit { .. }, _) => Err("a call has no exit code".to_owned()),
    }
}

fn check_message(want: &Want, mut wanted: DynamicMessage, mut got: DynamicMessage) -> Result<(), String> {
    let shown = schema::print(&got);
    for path in &want.nonzero {
        clear_path(&mut got, path, true).map_err(|error| format!("want: {error}\ngot:  {shown}"))?;
    }
    for path in &want.any {
        clear_path(&mut got, path, false)?;
    }
    for (name, bytes) in &want.lengths {
        let value =
            got.get_field_by_name(name).ok_or_else(|| format!("the case is wrong: there is no field {name}"))?;
        let got_bytes = value.as_bytes().map(bytes::Bytes::len);
        if got_bytes != Some(*bytes) {
            return Err(format!("want: {name} of {bytes} bytes\ngot:  {got_bytes:?}, {shown}"));
        }
        got.clear_field_by_name(name);
    }
    for path in want.nonzero.iter().chain(&want.any) {
        clear_path(&mut wanted, path, false)?;
    }
    if wanted == got { Ok(()) } else { Err(format!("want: {}\ngot:  {shown}", schema::print(&wanted))) }
}

fn fill_header(message: &mut DynamicMessage, ids: Ids) {
    if !message.has_field_by_name("header") {
        return;
    }
    let Some(Value::Message(header)) = message.get_field_by_name_mut("header") else { return };
    for (name, id) in [("cluster_id", ids.cluster), ("member_id", ids.member), ("raft_term", ids.term)] {
        header.set_field_by_name(name, Value::U64(id));
    }
}

/// Clears the field at `path` in the message and in each element of a list on the way; with `must_be_set` it has to be there.
fn clear_path(message: &mut DynamicMessage, path: &str, must_be_set: bool) -> Result<(), String> {
    let (name, inner) = path.split_once('.').map_or((path, None), |(name, inner)| (name, Some(inner)));
    if message.descriptor().get_field_by_name(name).is_none() {
        return Err(format!("the case is wrong: there is no field {name}"));
    }
    let is_set = message.has_field_by_name(name);
    if must_be_set && !is_set {
        return Err(format!("{name} set"));
    }
    if !is_set {
        return Ok(());
    }
    let Some(inner) = inner else {
        message.clear_field_by_name(name);
        return Ok(());
    };
    match message.get_field_by_name_mut(name) {
        Some(Value::Message(inside)) => clear_path(inside, inner, must_be_set),
        Some(Value::List(list)) => list.iter_mut().try_for_each(|value| match value {
            Value::Message(inside) => clear_path(inside, inner, must_be_set),
            _ => Err(format!("the case is wrong: {name} holds no messages")),
        }),
        _ => Err(format!("the case is wrong: {name} holds no message")),
    }
}

/// An HTTP answer, as `STATUS BODY`, against what was wanted.
pub(crate) fn check_http(want: &Want, status: u16, body: &str) -> Result<(), String> {
    let Reply::Ok(text) = &want.reply else { return Err("an HTTP answer is a status and a body".to_owned()) };
    let got = format!("{status} {}", body.trim_end());
    if glob(text.trim_end(), got.trim_end()) { Ok(()) } else { Err(format!("want: {text}\ngot:  {got}")) }
}

/// How a process ended against what was wanted.
pub(crate) fn check_process(want: &Want, got: &Finished) -> Result<(), String> {
    let (met, wanted) = match &want.reply {
        Reply::Ok(text) => (got.code == 0 && glob(text, got.stdout.trim_end()), text.clone()),
        Reply::Exit { code, stderr } => {
            (got.code == *code && stderr.matches(got.stderr.trim_end()), format!("exit {code}, {stderr:?}"))
        }
        Reply::Status { .. } => return Err("a process has no gRPC status".to_owned()),
    };
    if met {
        return Ok(());
    }
    Err(format!("want: {wanted}\ngot:  exit {}\n{}{}", got.code, got.stdout, got.stderr))
}

#[cfg(test)]
mod tests;
