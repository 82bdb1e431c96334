//! Recordings of leases, sound and unsound.

use super::*;

const TTL: i64 = 5;

fn at(ms: u64) -> Instant {
    Instant(ms * 1_000_000)
}

/// From 0 to 60 s, leading at 1 s, well until 50 s, with an election timeout of 1 s; looked at every 100 ms, and revision r came at r seconds.
fn life() -> Life {
    let mut life = Life::new(at(0), at(1000), Duration::from_secs(1), 1);
    for look in 10..600 {
        life.look(look / 10, at(u64::try_from(look).expect("positive") * 100));
    }
    life.well_until = at(50_000);
    life.ended = at(60_000);
    life
}

/// One lease, granted by a call from 2.0 s to 2.1 s.
fn granted() -> Leases {
    let mut leases = Leases::default();
    leases.granted(1, TTL, at(2000), Some(at(2100)));
    leases
}

/// One lease that was there before this life.
fn inherited() -> Leases {
    let mut leases = granted();
    leases.close(&Life::default(), |_| true).expect("it is there");
    leases
}

fn ends(mut leases: Leases) -> Result<(), String> {
    leases.close(&life(), |_| false)
}

fn stays(mut leases: Leases) -> Result<(), String> {
    leases.close(&life(), |_| true)
}

fn says(result: Result<(), String>, what: &str) {
    let told = result.expect_err("it is wrong");
    assert!(told.contains(what), "{told:?} doesn't say {what:?}");
}

#[test]
fn a_lease_that_ends_in_time_is_right() {
    let mut leases = granted();
    leases.ended(1, 8);
    assert_eq!(ends(leases), Ok(()));
}

#[test]
fn keys_that_go_before_the_ttl_are_a_violation() {
    let mut leases = granted();
    leases.ended(1, 6);
    says(ends(leases), "it had to live until");
}

#[test]
fn a_renewal_that_was_acknowledged_counts_from_its_beginning() {
    let renewed = |revision| {
        let mut leases = granted();
        leases.renewed(1, at(6000), Some(at(6200)));
        leases.ended(1, revision);
        ends(leases)
    };
    says(renewed(8), "it had to live until");
    says(renewed(10), "it had to live until");
    assert_eq!(renewed(11), Ok(()));
}

#[test]
fn a_renewal_without_an_answer_allows_any_end_behind_the_ttl() {
    for revision in [8, 20, 40] {
        let mut leases = granted();
        leases.renewed(1, at(6000), None);
        leases.ended(1, revision);
        assert_eq!(ends(leases), Ok(()));
    }
}

#[test]
fn keys_that_go_too_late_are_a_violation() {
    for (revision, is_late) in [(9, false), (10, true), (30, true)] {
        let mut leases = granted();
        leases.ended(1, revision);
        assert_eq!(ends(leases).is_err(), is_late, "{revision}");
    }
}

#[test]
fn a_lease_without_keys_that_is_found_too_late_is_a_violation() {
    let mut leases = granted();
    leases.found(1, at(9200));
    says(ends(leases), "its time was over");
}

#[test]
fn a_lease_that_survives_its_time_is_a_violation() {
    says(stays(granted()), "its time was over");
}

#[test]
fn nothing_is_late_when_the_device_was_not_well() {
    let mut unwell = life();
    unwell.well_until = at(9000);
    let mut leases = granted();
    leases.ended(1, 40);
    assert_eq!(leases.close(&unwell, |_| false), Ok(()));
}

#[test]
fn a_start_gives_the_whole_ttl_and_an_election_timeout() {
    for (revision, is_right) in [(5, false), (6, true), (7, true), (8, true), (10, false)] {
        let mut leases = inherited();
        leases.ended(1, revision);
        assert_eq!(ends(leases).is_ok(), is_right, "{revision}");
    }
}

#[test]
fn a_renewal_after_a_start_takes_the_place_of_the_election_timeout() {
    for (end, revision, is_right) in
        [(Some(at(300)), 4, false), (Some(at(300)), 6, true), (None, 6, true), (None, 5, false)]
    {
        let mut leases = inherited();
        leases.renewed(1, at(200), end);
        leases.ended(1, revision);
        assert_eq!(ends(leases).is_ok(), is_right, "{revision}");
    }
}

#[test]
fn a_revocation_may_end_it_at_any_time_from_its_beginning() {
    for (begin, is_right) in [(2500, true), (4500, false)] {
        let mut leases = granted();
        leases.revoked(1, at(begin));
        leases.ended(1, 3);
        assert_eq!(ends(leases).is_ok(), is_right);
    }
}

#[test]
fn a_lease_found_gone_too_early_is_a_violation() {
    let mut leases = granted();
    leases.missed(1, at(4000), at(4100));
    says(ends(leases), "it had to live until");
    // Before the grant was answered it may not be there yet.
    let mut leases = granted();
    leases.missed(1, at(2050), at(2200));
    leases.ended(1, 8);
    assert_eq!(ends(leases), Ok(()));
}

#[test]
fn a_lease_that_comes_back_is_a_violation() {
    let mut leases = granted();
    leases.missed(1, at(7200), at(7300));
    leases.found(1, at(7400));
    says(ends(leases), "found it alive");
    let mut leases = granted();
    leases.ended(1, 8);
    leases.renewed(1, at(8200), Some(at(8300)));
    assert!(ends(leases).is_err(), "a renewal of a lease whose keys are gone");
    let mut leases = granted();
    leases.ended(1, 8);
    says(stays(leases), "is there after a start");
}

#[test]
fn keys_that_outlive_what_a_call_found_gone_are_a_violation() {
    let mut leases = granted();
    leases.missed(1, at(7200), at(7300));
    leases.ended(1, 8);
    says(ends(leases), "its keys were there");
}

#[test]
fn an_acknowledged_grant_that_a_crash_takes_is_a_violation() {
    let mut short = life();
    (short.well_until, short.ended) = (at(3000), at(3000));
    says(granted().close(&short, |_| false), "it had to live until");
    // Without an answer it may never have been carried out.
    let mut leases = Leases::default();
    leases.granted(1, TTL, at(2000), None);
    assert_eq!(leases.close(&short, |_| false), Ok(()));
}
