//! Each call by itself: what its answer says, and whether it may say so.

use super::{Answer, Call, History, Op, Refused, Request, Response, Violation, agree};

impl History {
    /// Notes what calls say of leases and compactions, before anything is checked.
    pub(super) fn note_calls(&mut self, ops: &[Op]) {
        // Grants first: whatever else is said of a lease may have been asked before its grant was answered.
        for op in ops {
            if let Call::LeaseGrant { lease, ttl } = op.call {
                self.model.grant_lease(lease);
                self.leases.granted(lease, ttl, op.begin, op.answer.as_ref().map(|(end, _)| *end));
            }
        }
        for op in ops {
            self.note_call(op);
        }
    }

    fn note_call(&mut self, op: &Op) {
        let end = op.answer.as_ref().map(|(end, _)| *end);
        let answer = op.answer.as_ref().map(|(_, answer)| answer);
        match (&op.call, answer) {
            (Call::Compact { revision, .. }, None | Some(Ok(_))) => self.compactions.attempted(*revision),
            (Call::LeaseRevoke { lease }, None) => self.leases.revoked(*lease, op.begin),
            (Call::LeaseRevoke { lease }, Some(Ok(_))) => {
                self.leases.revoked(*lease, op.begin);
                self.leases.missed(*lease, op.begin, end.unwrap_or(op.begin));
            }
            (Call::LeaseKeepAlive { lease }, None) => self.leases.renewed(*lease, op.begin, None),
            (Call::LeaseKeepAlive { lease }, Some(Ok(Answer::KeptAlive { ttl: 1.., .. }))) => {
                self.leases.renewed(*lease, op.begin, end);
            }
            (Call::LeaseTimeToLive { lease, .. }, Some(Ok(Answer::TimeToLive { ttl: 0.., .. }))) => {
                self.leases.found(*lease, op.begin);
            }
            (Call::LeaseKeepAlive { lease } | Call::LeaseTimeToLive { lease, .. }, Some(Ok(_)))
            | (Call::LeaseRevoke { lease }, Some(Err(Refused::LeaseNotFound))) => {
                self.leases.missed(*lease, op.begin, end.unwrap_or(op.begin));
            }
            (Call::Kv(Request::Put(put)), Some(Ok(_))) if put.lease != 0 => self.leases.found(put.lease, op.begin),
            (Call::Kv(request), Some(Err(Refused::LeaseNotFound))) => {
                // With more than one nobody can tell which it was.
                if let [lease] = leases_of(request)[..] {
                    self.leases.missed(lease, op.begin, end.unwrap_or(op.begin));
                }
            }
            _ => {}
        }
    }

    /// A call that made no revision.
    pub(super) fn check_call(&self, op: &Op) -> Result<(), Violation> {
        let Some((_, answer)) = &op.answer else { return Ok(()) };
        if let Ok(answer) = answer
            && !(op.floor..=self.known_revision).contains(&answer.revision())
        {
            let what =
                format!("{:?} was answered at revision {}, after {} was known", op.call, answer.revision(), op.floor);
            return Err(Violation(what));
        }
        let verdict = match (&op.call, answer) {
            (Call::Kv(Request::Range(range)), Ok(_)) if range.revision > 0 && range.revision < op.compacted => {
                Err(format!("it was compacted to {} before", op.compacted))
            }
            (Call::Kv(request), Ok(Answer::Kv(response))) => self.check_read(request, response),
            (Call::Kv(Request::Range(range)), Err(Refused::Compacted)) if range.revision > 0 => {
                self.check_compacted(op, range.revision + 1)
            }
            (Call::Kv(request), Err(refused)) => self.check_refused(op, request, *refused),
            (Call::Compact { revision, .. }, answer) => self.check_compaction(op, *revision, answer),
            (Call::LeaseGrant { ttl, .. }, Ok(Answer::Granted { ttl: granted, .. })) => {
                is_granted(*granted, super::leases::granted_ttl(*ttl))
            }
            (Call::LeaseRevoke { lease }, Ok(answer)) => self.check_revoked(*lease, answer.revision()),
            (Call::LeaseKeepAlive { lease }, Ok(Answer::KeptAlive { ttl, .. })) => {
                if *ttl == 0 {
                    Ok(())
                } else {
                    is_granted(*ttl, self.granted_ttl(*lease))
                }
            }
            (Call::LeaseTimeToLive { lease, keys }, Ok(answer)) => self.check_time_to_live(op, *lease, *keys, answer),
            (Call::LeaseRevoke { .. }, Err(Refused::LeaseNotFound)) => Ok(()),
            _ => Err("that is no answer to it".to_owned()),
        };
        verdict.map_err(|why| Violation(format!("{:?} was answered with {answer:?}: {why}", op.call)))
    }

    /// An answer to a request that changed nothing.
    fn check_read(&self, request: &Request, response: &Response) -> Result<(), String> {
        let revision = response.revision();
        let Some(mut model) = self.model_at(revision) else { return Err("no such revision".to_owned()) };
        match model.execute(request) {
            Ok(expected) if model.revision() == revision && agree(request, &expected, response) => Ok(()),
            expected => Err(format!("expected {expected:?}")),
        }
    }

    /// A refusal has no revision: it must be right at one of those that the request can have seen.
    fn check_refused(&self, op: &Op, request: &Request, refused: Refused) -> Result<(), String> {
        let refuses = |revision: i64| {
            let mut model = self.model_at(revision)?;
            if refused == Refused::LeaseNotFound {
                // Whether it may have been gone is for the rules of leases to say.
                leases_of(request).into_iter().for_each(|lease| model.forget_lease(lease));
            }
            Some(model.execute(request) == Err(refused))
        };
        if (op.floor..=self.known_revision).any(|revision| refuses(revision) == Some(true)) {
            return Ok(());
        }
        Err("there is no reason".to_owned())
    }

    /// The store can have been compacted to `revision` or beyond when `op` was answered.
    fn check_compacted(&self, op: &Op, revision: i64) -> Result<(), String> {
        if self.compactions.may_have_reached(revision, self.compacted) {
            return Ok(());
        }
        Err(format!("nobody compacted to {revision}, and {} was known before {:?}", op.compacted, op.begin))
    }

    fn check_compaction(&self, op: &Op, revision: i64, answer: &Result<Answer, Refused>) -> Result<(), String> {
        match answer {
            Ok(Answer::Compacted { revision: current }) if revision > *current => Err("it is in the future".to_owned()),
            Ok(Answer::Compacted { .. }) if revision <= op.compacted => {
                Err(format!("it was compacted to {} before", op.compacted))
            }
            Ok(Answer::Compacted { .. }) => Ok(()),
            Err(Refused::Compacted) => self.check_compacted(op, revision),
            Err(Refused::FutureRevision) if revision > op.floor => Ok(()),
            _ => Err(format!("{} was known", op.floor)),
        }
    }

    /// A lease was revoked and no revision was made: it had no keys, and never gets any.
    fn check_revoked(&self, lease: i64, revision: i64) -> Result<(), String> {
        if let Some(model) = self.model.rewound_to(revision)
            && let Some(key) = model.attached(lease).next()
        {
            return Err(format!("the key {key:?} hung on it"));
        }
        let late = self
            .model
            .writes()
            .find(|(main, _, written)| *main > revision && written.kv.as_ref().is_some_and(|kv| kv.lease == lease));
        late.map_or(Ok(()), |(main, ..)| Err(format!("a key was attached at revision {main}")))
    }

    fn check_time_to_live(&self, op: &Op, lease: i64, keys: bool, answer: &Answer) -> Result<(), String> {
        let Answer::TimeToLive { revision, ttl, granted_ttl, keys: got } = answer else {
            return Err("that is no answer to it".to_owned());
        };
        if *ttl == -1 {
            return if *granted_ttl == 0 && got.is_empty() { Ok(()) } else { Err("there is no such lease".to_owned()) };
        }
        is_granted(*granted_ttl, self.granted_ttl(lease))?;
        let left_max = granted_ttl + i64::try_from(self.life.grace.as_secs()).unwrap_or(i64::MAX);
        if !(0..=left_max).contains(ttl) {
            return Err(format!("at most {left_max} s are left"));
        }
        let had = |revision| {
            let model = self.model.rewound_to(revision)?;
            Some(model.attached(lease).map(|key| &**key).eq(got.iter().map(Vec::as_slice)))
        };
        let is_right = if keys { (op.floor..=*revision).any(|at| had(at) == Some(true)) } else { got.is_empty() };
        if is_right { Ok(()) } else { Err("it never had these keys".to_owned()) }
    }

    fn granted_ttl(&self, lease: i64) -> i64 {
        self.leases.ttl(lease).map_or(0, |ttl| i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX))
    }
}

fn is_granted(got: i64, granted: i64) -> Result<(), String> {
    if got == granted { Ok(()) } else { Err(format!("{granted} s were granted")) }
}

/// The leases that a request may attach keys to.
fn leases_of(request: &Request) -> Vec<i64> {
    let mut leases = match request {
        Request::Put(put) if put.lease != 0 => vec![put.lease],
        Request::Txn(txn) => txn.success.iter().chain(&txn.failure).flat_map(leases_of).collect(),
        _ => Vec::new(),
    };
    leases.sort_unstable();
    leases.dedup();
    leases
}
