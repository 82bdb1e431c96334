use super::*;

#[test]
fn names_are_read_as_they_are_written() {
    let dir = Path::new("/log");
    for sequence in [1, 0xab, 1 << 62] {
        let path = segment_path(dir, sequence);
        let name = path.file_name().and_then(|name| name.to_str()).expect("plain ASCII");
        assert_eq!(parse_name(name), Named::Segment(sequence));
        let path = spare_path(dir, sequence);
        assert_eq!(parse_name(path.file_name().and_then(|name| name.to_str()).expect("plain ASCII")), Named::Spare);
    }
    assert_eq!(parse_name(TEMPORARY_NAME), Named::Temporary);
}

#[test]
fn names_of_others_are_left_alone() {
    let others = [
        "0000000000000000.wal",
        "ffffffffffffffff.wal",
        "00000000000000AB.wal",
        "1.wal",
        "000000000000001.wal",
        "+000000000000001.wal",
        "0000000000000001.wal.bak",
        ".wal",
        "lost+found",
    ];
    for name in others {
        assert_eq!(parse_name(name), Named::Other, "{name}");
    }
}
