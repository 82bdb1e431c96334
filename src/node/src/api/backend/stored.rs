//! Single values as etcd's backend stores them.

use bytes::{BufMut, BytesMut};
use plinth_base::{
    MemberId,
    codec::{put_varint, varint_len},
};
use plinth_kv::{AlarmKind, Electorate, MemberRecord, State};
use plinth_rpc::etcdserverpb as pb;
use prost::Message as _;

/// Keys of the bucket `alarm`: etcd's message for each.
pub(super) fn alarms(state: &State) -> Vec<Vec<u8>> {
    let message =
        |(member, kind): &(u64, AlarmKind)| pb::AlarmMember { member_id: *member, alarm: *kind as i32 }.encode_to_vec();
    let mut keys: Vec<_> = state.alarms.iter().map(message).collect();
    keys.sort_unstable();
    keys
}

/// The voters, as raft's state is stored.
pub(super) fn conf_state_json(state: &State) -> String {
    let Electorate { voters, outgoing, learners, .. } = &state.electorate;
    let list = |name: &str, ids: &[MemberId]| {
        let ids: Vec<_> = ids.iter().map(|id| id.0.to_string()).collect();
        if ids.is_empty() { String::new() } else { format!(r#""{name}":[{}],"#, ids.join(",")) }
    };
    let (voters, learners) = (list("voters", voters), list("learners", learners));
    format!(r#"{{{voters}{learners}{}"auto_leave":false}}"#, list("voters_outgoing", outgoing))
}

/// etcd's `leasepb.Lease`: id (1) and TTL (2).
pub(super) fn lease(id: i64, ttl: i64) -> BytesMut {
    const TAG_ID: u8 = 0x08;
    const TAG_TTL: u8 = 0x10;
    let mut out = BytesMut::with_capacity(2 + varint_len(id as u64) + varint_len(ttl as u64));
    for (tag, number) in [(TAG_ID, id), (TAG_TTL, ttl)] {
        out.put_u8(tag);
        put_varint(&mut out, number as u64);
    }
    out
}

/// A member as etcd stores it: JSON in the order of its fields, without those that are empty.
pub(super) fn member_json(member: &MemberRecord) -> String {
    let urls = |urls: &[String]| {
        let urls: Vec<_> = urls.iter().map(|url| go_json_string(url)).collect();
        format!("[{}]", urls.join(","))
    };
    let mut out = format!(r#"{{"id":{},"peerURLs":{}"#, member.id.0, urls(&member.peer_urls));
    if member.is_learner() {
        out.push_str(r#","isLearner":true"#);
    }
    if !member.name.is_empty() {
        out.push_str(&format!(r#","name":{}"#, go_json_string(&member.name)));
    }
    if !member.client_urls.is_empty() {
        out.push_str(&format!(r#","clientURLs":{}"#, urls(&member.client_urls)));
    }
    out.push('}');
    out
}

/// A string as Go's `encoding/json` writes it.
fn go_json_string(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for char in text.chars() {
        match char {
            '"' | '\\' => out.extend(['\\', char]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..='\x1f' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(char)));
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use plinth_kv::Standing;

    use super::*;

    #[test]
    fn members_are_written_as_go_does() {
        let mut member = MemberRecord {
            id: MemberId(0x6678_8015_7b88_12c8),
            name: "default".to_owned(),
            peer_urls: vec!["http://127.0.0.1:42380".to_owned()],
            client_urls: Vec::new(),
            standing: Standing::Voter,
        };
        let want = r#"{"id":7383792418829112008,"peerURLs":["http://127.0.0.1:42380"],"name":"default"}"#;
        assert_eq!(member_json(&member), want);
        member.name = "a\"\\<\u{1}\n\u{e9}".to_owned();
        (member.standing, member.client_urls) = (Standing::Learner, vec!["a".to_owned(), "b".to_owned()]);
        let want = r#"{"id":7383792418829112008,"peerURLs":["http://127.0.0.1:42380"],"isLearner":true,"name":"a\"\\\u003c\u0001\né","clientURLs":["a","b"]}"#;
        assert_eq!(member_json(&member), want);
    }

    #[test]
    fn leases_are_written_as_etcd_does() {
        let want = [8, 0x89, 0xae, 0xe6, 0xd8, 0xe9, 0xbf, 0xa8, 0xe4, 0x12, 0x10, 0xd8, 4];
        assert_eq!(&*lease(0x12c8_a1fe_9b19_9709, 600), want);
    }
}
