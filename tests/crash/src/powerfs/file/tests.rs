use super::*;

fn filled(byte: u8, bytes: usize) -> Vec<u8> {
    vec![byte; bytes]
}

fn cut(file: &FileImage, seed: u64) -> (FileImage, CutReport) {
    let mut after = file.clone();
    let mut report = CutReport::default();
    after.cut(&mut Prng::new(seed), &mut report);
    (after, report)
}

#[test]
fn flushed_data_survives_every_cut() {
    let mut file = FileImage::default();
    file.write(100, &filled(1, 10_000));
    file.flush();
    for seed in 0..50 {
        let (after, report) = cut(&file, seed);
        assert_eq!(after.read(100, 20_000), filled(1, 10_000));
        assert_eq!(report, CutReport::default());
    }
}

#[test]
fn a_range_flush_covers_its_sectors_and_no_others() {
    let mut file = FileImage::default();
    file.allocate(0..65_536, false);
    file.flush();
    file.write(0, &filled(1, 8192));
    file.write(16_384, &filled(2, 4096));
    file.flush_range(16_384..20_480);
    let mut lost = 0;
    for seed in 0..50 {
        let (after, _) = cut(&file, seed);
        assert_eq!(after.len(), 65_536);
        assert_eq!(after.read(16_384, 4096), filled(2, 4096));
        lost += u32::from(after.read(0, 8192) != filled(1, 8192));
    }
    assert!(lost > 25, "what had no flush of its own must get lost, it did in {lost} of 50 cuts");
}

#[test]
fn an_unflushed_sector_is_new_old_or_torn_never_anything_else() {
    let mut file = FileImage::default();
    file.write(0, &filled(1, 1 << 20));
    file.flush();
    file.write(0, &filled(2, 1 << 20));
    let mut total = CutReport::default();
    for seed in 0..20 {
        let (after, report) = cut(&file, seed);
        assert_eq!(report.sectors_kept + report.sectors_dropped + report.sectors_torn, 2048);
        for sector in after.read(0, 1 << 20).chunks(SECTOR_BYTES as usize) {
            let new = sector.iter().take_while(|byte| **byte == 2).count();
            assert!(sector[new..].iter().all(|byte| *byte == 1), "new bytes behind old ones");
        }
        total.sectors_kept += report.sectors_kept;
        total.sectors_dropped += report.sectors_dropped;
        total.sectors_torn += report.sectors_torn;
    }
    assert!(total.sectors_kept > 0 && total.sectors_dropped > 0 && total.sectors_torn > 0, "{total:?}");
}

#[test]
fn unflushed_length_is_between_the_two_and_what_is_behind_it_reads_as_zero() {
    let mut file = FileImage::default();
    file.write(0, &filled(1, 6000));
    file.flush();
    file.set_len(1000);
    for seed in 0..50 {
        let (mut after, _) = cut(&file, seed);
        assert!((1000..=6000).contains(&after.len()));
        let len = after.len();
        after.set_len(8192);
        assert!(after.read(len, 8192).iter().all(|byte| *byte == 0));
    }
}

#[test]
fn a_sector_written_again_after_a_partial_flush_falls_back_to_the_flushed_content() {
    let mut file = FileImage::default();
    file.write(0, &filled(1, 4096));
    file.flush();
    file.write(0, &filled(2, 1024));
    file.flush_range(0..512);
    file.write(0, &filled(3, 512));
    for seed in 0..50 {
        let (after, _) = cut(&file, seed);
        let first = after.read(0, 512);
        let new = first.iter().take_while(|byte| **byte == 3).count();
        assert!(first[new..].iter().all(|byte| *byte == 2), "the content before the flush came back");
        assert_eq!(after.read(1024, 3072), filled(1, 3072));
    }
}

#[test]
fn punched_blocks_give_space_back_and_read_as_zero() {
    let mut file = FileImage::default();
    file.write(0, &filled(7, 65_536));
    assert_eq!(file.allocated_blocks(), 16);
    file.punch(4096..12_288);
    assert_eq!(file.allocated_blocks(), 14);
    assert_eq!(file.missing_blocks(0..65_536), 2);
    assert_eq!(file.read(4096, 8192), filled(0, 8192));
    assert_eq!(file.len(), 65_536);
    file.punch(100..200);
    assert_eq!(file.allocated_blocks(), 14);
    assert_eq!(file.read(99, 102), [&[7][..], &filled(0, 100), &[7]].concat());
}
