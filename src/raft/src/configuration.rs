//! Who votes: the members of a group, in one set or, while it changes by more than one, in two (joint consensus, Raft thesis, section 4.3).
//!
//! A configuration is in force at a member from when it has *applied* the entry that holds it. What makes that safe is written at
//! [`crate::Raft`]'s membership part.

use std::fmt;

use plinth_base::{LogIndex, MemberId};

/// The members of a group by what they do. All lists are sorted and hold nobody twice.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Configuration {
    /// Who votes.
    pub voters: Vec<MemberId>,
    /// While the configuration is joint: who voted before. Both sets must agree to everything.
    pub outgoing: Vec<MemberId>,
    /// Who gets entries and doesn't vote.
    pub learners: Vec<MemberId>,
    /// Those of the learners that were added as voters and become that when they have been heard of.
    pub awaited: Vec<MemberId>,
}

/// One change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// A new voter; carried as a learner until it was heard of.
    AddVoter(MemberId),
    /// A new learner.
    AddLearner(MemberId),
    /// A learner votes from now on.
    Promote(MemberId),
    /// A voter or learner is gone.
    Remove(MemberId),
}

/// Why a change can't be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChangeError {
    /// It is a member already.
    IsMember(MemberId),
    /// It is no member.
    NoMember(MemberId),
    /// It votes already.
    IsVoter(MemberId),
    /// Nobody would be left to vote.
    NoVoter,
    /// Another change is under way.
    IsJoint,
    /// Two changes name one member.
    Twice(MemberId),
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IsMember(id) => write!(f, "{:x} is a member already", id.0),
            Self::NoMember(id) => write!(f, "{:x} is no member", id.0),
            Self::IsVoter(id) => write!(f, "{:x} votes already", id.0),
            Self::NoVoter => f.write_str("nobody would be left to vote"),
            Self::IsJoint => f.write_str("another change of the members is under way"),
            Self::Twice(id) => write!(f, "two changes name {:x}", id.0),
        }
    }
}

impl std::error::Error for ChangeError {}

/// Where a vote stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tally {
    /// A majority of each set said yes.
    Won,
    /// It can't be won any more.
    Lost,
    /// Answers are missing.
    Open,
}

impl Configuration {
    /// Voters only.
    #[must_use]
    pub fn of_voters(voters: impl IntoIterator<Item = MemberId>) -> Self {
        let mut configuration = Self { voters: voters.into_iter().collect(), ..Self::default() };
        configuration.voters.sort_unstable();
        configuration.voters.dedup();
        configuration
    }

    /// Two sets vote.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether `id` votes, in either set.
    #[must_use]
    pub fn is_voter(&self, id: MemberId) -> bool {
        self.voters.contains(&id) || self.outgoing.contains(&id)
    }

    /// Whether `id` belongs to the group.
    #[must_use]
    pub fn is_member(&self, id: MemberId) -> bool {
        self.is_voter(id) || self.learners.contains(&id)
    }

    /// Everybody who gets entries, each once, in no order that means anything.
    pub fn members(&self) -> impl Iterator<Item = MemberId> + '_ {
        let leaving = self.outgoing.iter().filter(|id| !self.voters.contains(id) && !self.learners.contains(id));
        self.voters.iter().chain(&self.learners).chain(leaving).copied()
    }

    /// Everybody who votes, in either set, each once.
    pub fn all_voters(&self) -> impl Iterator<Item = MemberId> + '_ {
        let leaving = self.outgoing.iter().filter(|id| !self.voters.contains(id));
        self.voters.iter().chain(leaving).copied()
    }

    /// `id` is the only one who votes, and nobody else gets entries.
    #[must_use]
    pub fn is_alone(&self, id: MemberId) -> bool {
        self.voters == [id] && self.outgoing.is_empty() && self.learners.is_empty()
    }

    /// The highest index that a majority of each set has.
    pub fn committed(&self, matched: impl Fn(MemberId) -> LogIndex) -> LogIndex {
        let of = |set: &[MemberId]| {
            let mut indexes: Vec<LogIndex> = set.iter().map(|id| matched(*id)).collect();
            indexes.sort_unstable_by(|a, b| b.cmp(a));
            indexes[set.len() / 2]
        };
        let newer = of(&self.voters);
        if self.is_joint() { newer.min(of(&self.outgoing)) } else { newer }
    }

    /// Where a vote stands. `None` is an answer that is missing.
    pub fn tally(&self, answer: impl Fn(MemberId) -> Option<bool>) -> Tally {
        let of = |set: &[MemberId]| {
            let quorum = set.len() / 2 + 1;
            let yes = set.iter().filter(|id| answer(**id) == Some(true)).count();
            let no = set.iter().filter(|id| answer(**id) == Some(false)).count();
            if yes >= quorum {
                Tally::Won
            } else if set.len() - no < quorum {
                Tally::Lost
            } else {
                Tally::Open
            }
        };
        let newer = of(&self.voters);
        let older = if self.is_joint() { of(&self.outgoing) } else { newer };
        match (newer, older) {
            (Tally::Won, Tally::Won) => Tally::Won,
            (Tally::Lost, _) | (_, Tally::Lost) => Tally::Lost,
            _ => Tally::Open,
        }
    }

    /// Whether `holds` is true of a majority of each set.
    pub fn has_quorum(&self, holds: impl Fn(MemberId) -> bool) -> bool {
        self.tally(|id| Some(holds(id))) == Tally::Won
    }

    /// The configuration after `changes`. More than one change of who votes makes it joint.
    ///
    /// # Errors
    /// A change that makes no sense, or comes while the configuration is joint.
    pub fn changed(&self, changes: &[Change]) -> Result<Self, ChangeError> {
        if self.is_joint() {
            return Err(ChangeError::IsJoint);
        }
        let mut next = self.clone();
        let mut named = Vec::new();
        for change in changes {
            let (Change::AddVoter(id) | Change::AddLearner(id) | Change::Promote(id) | Change::Remove(id)) = *change;
            if named.contains(&id) {
                return Err(ChangeError::Twice(id));
            }
            named.push(id);
            match *change {
                Change::AddVoter(_) | Change::AddLearner(_) if next.is_member(id) => {
                    return Err(ChangeError::IsMember(id));
                }
                Change::AddVoter(_) => {
                    insert(&mut next.learners, id);
                    insert(&mut next.awaited, id);
                }
                Change::AddLearner(_) => insert(&mut next.learners, id),
                Change::Promote(_) if next.voters.contains(&id) => return Err(ChangeError::IsVoter(id)),
                Change::Promote(_) if !next.learners.contains(&id) => return Err(ChangeError::NoMember(id)),
                Change::Promote(_) => {
                    next.forget(id);
                    insert(&mut next.voters, id);
                }
                Change::Remove(_) if !next.is_member(id) => return Err(ChangeError::NoMember(id)),
                Change::Remove(_) => next.forget(id),
            }
        }
        if next.voters.is_empty() {
            return Err(ChangeError::NoVoter);
        }
        if self.voters_that_differ(&next) > 1 {
            next.outgoing.clone_from(&self.voters);
        }
        Ok(next)
    }

    /// The configuration behind a joint one.
    #[must_use]
    pub fn left(&self) -> Self {
        Self { outgoing: Vec::new(), ..self.clone() }
    }

    /// Whether a majority of one and a majority of the other always have a member in common, as two configurations that follow each other must.
    #[must_use]
    pub fn overlaps(&self, next: &Self) -> bool {
        if self.is_joint() || next.is_joint() {
            // Into or out of a joint configuration: one of its sets is the other's.
            let sets = |of: &Self| [of.voters.clone(), if of.is_joint() { of.outgoing.clone() } else { Vec::new() }];
            return sets(self).iter().any(|set| !set.is_empty() && sets(next).contains(set));
        }
        self.voters_that_differ(next) <= 1
    }

    /// How many vote in one and not in the other.
    fn voters_that_differ(&self, next: &Self) -> usize {
        let came = next.voters.iter().filter(|id| !self.voters.contains(id)).count();
        let went = self.voters.iter().filter(|id| !next.voters.contains(id)).count();
        came + went
    }

    fn forget(&mut self, id: MemberId) {
        for list in [&mut self.voters, &mut self.learners, &mut self.awaited] {
            list.retain(|member| *member != id);
        }
    }
}

fn insert(list: &mut Vec<MemberId>, id: MemberId) {
    if let Err(at) = list.binary_search(&id) {
        list.insert(at, id);
    }
}

#[cfg(test)]
mod tests;
