use super::*;

fn id(id: u64) -> MemberId {
    MemberId(id)
}

fn voters(ids: &[u64]) -> Configuration {
    Configuration::of_voters(ids.iter().copied().map(MemberId))
}

#[test]
fn a_majority_commits_and_in_a_joint_configuration_one_of_each_set() {
    let matched = |of: MemberId| LogIndex([0, 9, 7, 5, 3, 1][usize::try_from(of.0).expect("small")]);
    assert_eq!(voters(&[1]).committed(matched), LogIndex(9));
    assert_eq!(voters(&[1, 2]).committed(matched), LogIndex(7));
    assert_eq!(voters(&[1, 2, 3]).committed(matched), LogIndex(7));
    assert_eq!(voters(&[1, 2, 3, 4]).committed(matched), LogIndex(5));
    assert_eq!(voters(&[1, 2, 3, 4, 5]).committed(matched), LogIndex(5));
    let joint = Configuration { outgoing: voters(&[3, 4, 5]).voters, ..voters(&[1, 2, 3]) };
    assert_eq!(joint.committed(matched), LogIndex(3));
}

#[test]
fn a_vote_is_won_lost_or_open() {
    let three = voters(&[1, 2, 3]);
    let tally = |yes: &[u64], no: &[u64]| {
        three.tally(|of| if yes.contains(&of.0) { Some(true) } else { no.contains(&of.0).then_some(false) })
    };
    assert_eq!(tally(&[1], &[]), Tally::Open);
    assert_eq!(tally(&[1, 3], &[]), Tally::Won);
    assert_eq!(tally(&[1], &[2]), Tally::Open);
    assert_eq!(tally(&[1], &[2, 3]), Tally::Lost);
    let joint = Configuration { outgoing: voters(&[3, 4, 5]).voters, ..three };
    assert_eq!(joint.tally(|of| (of.0 <= 3).then_some(true)), Tally::Open, "the older set hasn't answered");
    assert_eq!(joint.tally(|of| Some(of.0 != 5)), Tally::Won);
    assert_eq!(joint.tally(|of| Some(of.0 <= 3)), Tally::Lost);
}

#[test]
fn one_change_of_a_voter_is_made_at_once_and_more_through_a_joint_configuration() {
    let three = voters(&[1, 2, 3]);
    let added = three.changed(&[Change::AddVoter(id(4))]).expect("it is new");
    assert_eq!((&added.voters, &added.learners, &added.awaited), (&three.voters, &vec![id(4)], &vec![id(4)]));
    let promoted = added.changed(&[Change::Promote(id(4))]).expect("it is a learner");
    assert_eq!(promoted, voters(&[1, 2, 3, 4]));
    let both = promoted.changed(&[Change::Remove(id(1)), Change::Remove(id(2))]).expect("two are left");
    assert_eq!((&both.voters, &both.outgoing), (&voters(&[3, 4]).voters, &promoted.voters));
    assert_eq!(both.changed(&[Change::Remove(id(3))]), Err(ChangeError::IsJoint));
    assert_eq!(both.left(), voters(&[3, 4]));
    assert_eq!(both.members().count(), 4);
    assert!([three.overlaps(&added), added.overlaps(&promoted), promoted.overlaps(&both)].iter().all(|holds| *holds));
    assert!(both.overlaps(&both.left()) && !promoted.overlaps(&voters(&[3, 4])));
}

#[test]
fn changes_that_make_no_sense_are_refused() {
    let three = voters(&[1, 2, 3]);
    let refused = |changes: &[Change]| three.changed(changes).expect_err("it makes no sense");
    assert_eq!(refused(&[Change::AddVoter(id(1))]), ChangeError::IsMember(id(1)));
    assert_eq!(refused(&[Change::AddLearner(id(1))]), ChangeError::IsMember(id(1)));
    assert_eq!(refused(&[Change::Promote(id(1))]), ChangeError::IsVoter(id(1)));
    assert_eq!(refused(&[Change::Promote(id(9))]), ChangeError::NoMember(id(9)));
    assert_eq!(refused(&[Change::Remove(id(9))]), ChangeError::NoMember(id(9)));
    assert_eq!(refused(&[Change::AddVoter(id(4)), Change::Remove(id(4))]), ChangeError::Twice(id(4)));
    assert_eq!(voters(&[1]).changed(&[Change::Remove(id(1))]), Err(ChangeError::NoVoter));
}
