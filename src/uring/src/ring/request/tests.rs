use super::*;

fn request(kind: Kind, direct: bool, bytes: usize) -> Request {
    let fd = Arc::new(OwnedFd::from(std::fs::File::open("/dev/null").expect("always there")));
    let mut buf = AlignedBuf::zeroed(bytes);
    buf.as_mut_slice().fill(0xee);
    Request::new(kind, fd, direct, 0, buf)
}

/// Runs one round with these results.
fn round(request: &mut Request, results: &[i32]) -> Step {
    request.start_round(0);
    let mut step = Step::Wait;
    for (part, result) in results.iter().enumerate() {
        assert!(matches!(step, Step::Wait));
        step = request.complete(part, *result);
    }
    step
}

#[test]
fn a_short_cached_read_goes_on_and_zeroes_what_lies_behind_the_end() {
    let mut r = request(Kind::Read, false, 2 * BLOCK_BYTES);
    assert!(matches!(round(&mut r, &[100]), Step::Again));
    assert!(matches!(round(&mut r, &[-libc::EINTR]), Step::Again));
    assert!(matches!(round(&mut r, &[50]), Step::Again));
    assert!(matches!(round(&mut r, &[0]), Step::Done(Ok(()))));
    let buf = r.into_buf();
    assert_eq!(buf.as_slice()[149], 0xee);
    assert!(buf.as_slice()[150..].iter().all(|b| *b == 0));
}

#[test]
fn a_direct_read_that_ends_inside_a_block_keeps_its_last_bytes() {
    let mut r = request(Kind::Read, true, 4 * BLOCK_BYTES);
    assert!(matches!(round(&mut r, &[BLOCK_BYTES as i32 + 512]), Step::Again));
    assert!(matches!(round(&mut r, &[512]), Step::Done(Ok(()))));
    let buf = r.into_buf();
    assert_eq!(buf.as_slice()[BLOCK_BYTES + 511], 0xee);
    assert!(buf.as_slice()[BLOCK_BYTES + 512..].iter().all(|b| *b == 0));
}

#[test]
fn a_short_write_goes_on_with_its_sync_and_a_write_of_nothing_fails() {
    let mut r = request(Kind::WriteThenSync, true, 2 * BLOCK_BYTES);
    assert!(matches!(round(&mut r, &[BLOCK_BYTES as i32, -libc::ECANCELED]), Step::Again));
    assert!(matches!(round(&mut r, &[BLOCK_BYTES as i32, 0]), Step::Done(Ok(()))));

    let mut r = request(Kind::Write, true, BLOCK_BYTES);
    let Step::Done(Err(error)) = round(&mut r, &[0]) else { panic!("a write of nothing is no success") };
    assert_eq!(error.kind(), io::ErrorKind::WriteZero);
}

#[test]
fn a_failed_flush_is_an_error_even_though_its_write_succeeded() {
    let mut r = request(Kind::WriteThenSync, true, BLOCK_BYTES);
    let Step::Done(Err(error)) = round(&mut r, &[BLOCK_BYTES as i32, -libc::EIO]) else { panic!("must fail") };
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
}

#[test]
fn a_full_device_a_full_quota_and_a_missing_function_have_their_kinds() {
    for (code, kind) in [
        (libc::ENOSPC, io::ErrorKind::StorageFull),
        (libc::EDQUOT, io::ErrorKind::StorageFull),
        (libc::EOPNOTSUPP, io::ErrorKind::Unsupported),
    ] {
        let mut r = request(Kind::Allocate { bytes: 4096 }, false, 0);
        let Step::Done(Err(error)) = round(&mut r, &[-code]) else { panic!("must fail") };
        assert_eq!(error.kind(), kind);
    }
}

#[test]
fn interruptions_without_end_become_an_error() {
    let mut r = request(Kind::Sync, false, 0);
    let rounds = (0..1000).take_while(|_| matches!(round(&mut r, &[-libc::EAGAIN]), Step::Again)).count();
    assert_eq!(rounds, RETRIES_MAX as usize);
}
