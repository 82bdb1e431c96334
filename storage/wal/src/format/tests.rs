use std::{fmt::Write, path::Path};

use super::*;

/// The tables of all layouts, as the format page has them.
fn tables() -> String {
    let layouts = [
        ("Batch header", BatchHeader::FIELDS),
        ("Entry record", EntryRecord::FIELDS),
        ("Hard state record", HardStateRecord::FIELDS),
        ("Group start record", GroupStartRecord::FIELDS),
        ("Chain record", ChainRecord::FIELDS),
        ("Group state record", GroupStateRecord::FIELDS),
    ];
    let mut text = String::new();
    for (title, fields) in layouts {
        let bytes: usize = fields.iter().map(|field| field.bytes).sum();
        write!(text, "\n### {title}: {bytes} bytes\n\n| offset | bytes | field | meaning |\n|---|---|---|---|\n")
            .expect("a string takes everything");
        for Field { name, offset, bytes, meaning } in fields {
            writeln!(text, "| {offset} | {bytes} | `{name}` | {} |", meaning.trim())
                .expect("a string takes everything");
        }
    }
    text
}

#[test]
fn format_page_shows_the_layouts_as_the_code_has_them() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/format/log.md");
    let page = std::fs::read_to_string(&path).expect("the format page is part of the repository");
    let (begin, end) = ("<!-- layouts: begin -->\n", "\n<!-- layouts: end -->");
    let (before, rest) = page.split_once(begin).expect("the page marks where the tables begin");
    let (shown, after) = rest.split_once(end).expect("the page marks where the tables end");
    if shown == tables() {
        return;
    }
    assert!(std::env::var_os("UPDATE_EXPECT").is_some(), "docs/format/log.md differs: run with UPDATE_EXPECT=1");
    std::fs::write(&path, format!("{before}{begin}{}{end}{after}", tables())).expect("the page can be written");
}

#[test]
fn layouts_have_no_holes_and_the_page_names_their_constants() {
    for fields in [BatchHeader::FIELDS, EntryRecord::FIELDS, ChainRecord::FIELDS, GroupStateRecord::FIELDS] {
        let mut offset = 0;
        for field in fields {
            assert_eq!(field.offset, offset, "{} follows the field before it", field.name);
            offset += field.bytes;
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/format/log.md");
    let page = std::fs::read_to_string(&path).expect("the format page is part of the repository");
    for text in [format!("format version {FORMAT_VERSION}"), format!("{BLOCK} bytes"), "`plinthWL`".to_owned()] {
        assert!(page.contains(&text), "the page says {text:?}");
    }
    assert_eq!(MAGIC, *b"plinthWL");
}

#[test]
fn checksum_depends_on_the_nonce_and_on_every_byte_behind_it() {
    let mut batch = vec![5; 200];
    let sound = batch_checksum(7, &batch);
    assert_ne!(sound, batch_checksum(8, &batch));
    assert_ne!(sound, batch_checksum(7 << 32, &batch[..199]));
    for at in std::mem::offset_of!(BatchHeader, version)..200 {
        batch[at] ^= 1;
        assert_ne!(sound, batch_checksum(7, &batch), "byte {at}");
        batch[at] ^= 1;
    }
}
